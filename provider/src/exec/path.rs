//! Looks a program up as a shell does.

use super::LoadError;
use super::file::open_executable;
use crate::errno::Errno;
use crate::fs::{LastLink, OpenFile};
use crate::task::CurrentTask;
use std::sync::Arc;

/// The PATH of a program that has none (execvp(3)).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Finds and opens the program called `name`: as it is if it has a slash, else in the directories of `path` (execvp(3)).
///
/// Returns the file with the name that exec is to see.
///
/// # Errors
/// [`LoadError::Open`]: `EACCES` if only files that may not be executed were found, else `ENOENT`, or what a walk says.
pub fn find_program(
    task: &CurrentTask<'_>,
    name: &[u8],
    path: Option<&[u8]>,
) -> Result<(Arc<OpenFile>, Vec<u8>), LoadError> {
    let open = |candidate: &[u8]| {
        let location = task.kernel().namespace().walk(task, None, candidate, LastLink::Follow)?;
        open_executable(task, location)
    };
    if name.is_empty() {
        return Err(LoadError::Open(Errno::ENOENT));
    }
    if name.contains(&b'/') {
        return open(name).map(|file| (file, name.to_vec())).map_err(LoadError::Open);
    }
    let mut denied = false;
    for candidate in candidates(name, path.unwrap_or(DEFAULT_PATH)) {
        match open(&candidate) {
            Ok(file) => return Ok((file, candidate)),
            Err(Errno::EACCES) => denied = true,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT) => {}
            Err(error) => return Err(LoadError::Open(error)),
        }
    }
    Err(LoadError::Open(if denied { Errno::EACCES } else { Errno::ENOENT }))
}

/// The paths that `name` may have; an empty directory is the working directory.
fn candidates(name: &[u8], path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b':').map(move |directory| match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_gives_a_candidate() {
        let found: Vec<_> = candidates(b"ls", b"/bin::/usr/bin/").collect();
        assert_eq!(found, [b"/bin/ls".to_vec(), b"ls".to_vec(), b"/usr/bin//ls".to_vec()]);
    }
}
