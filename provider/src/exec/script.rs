//! `#!` lines (`fs/binfmt_script.c`).

use super::LoadError;

/// The bytes of a file that are looked at for a `#!` line (BINPRM_BUF_SIZE).
pub(super) const HEAD: usize = 256;

/// What a `#!` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The interpreter's path.
    pub(super) interpreter: Vec<u8>,
    /// Its one argument: the rest of the line, blanks and all.
    pub(super) argument: Option<Vec<u8>>,
}

/// Parses the first bytes of a file, zero-padded; `None` if it does not start with `#!`.
pub(super) fn parse(head: &[u8; HEAD]) -> Option<Result<Script, LoadError>> {
    let line = head.strip_prefix(b"#!")?;
    Some(parse_line(line).ok_or(LoadError::BadScript))
}

fn parse_line(line: &[u8]) -> Option<Script> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let ends_word = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let line = match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => &line[..end],
        None => {
            // No newline: the name must end within the bytes looked at, else it may have been cut.
            let line = &line[..line.len() - 1];
            let name = line.iter().position(|byte| !is_blank(byte))?;
            line[name..].iter().position(ends_word)?;
            line
        }
    };
    let end = line.iter().rposition(|byte| !is_blank(byte))? + 1;
    let start = line.iter().position(|byte| !is_blank(byte))?;
    let line = &line[start..end];
    let name_end = line.iter().position(ends_word).unwrap_or(line.len());
    let argument = match line.get(name_end) {
        None | Some(0) => None,
        Some(_) => line[name_end..].iter().position(|byte| !is_blank(byte)).map(|at| &line[name_end + at..]),
    };
    let to_nul = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Some(Script { interpreter: line[..name_end].to_vec(), argument: argument.map(to_nul) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], expected: Option<Result<(&str, Option<&str>), ()>>) {
        let mut head = [0; HEAD];
        let len = content.len().min(HEAD);
        head[..len].copy_from_slice(&content[..len]);
        let got = parse(&head).map(|script| {
            script
                .map(|script| {
                    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                    (text(script.interpreter), script.argument.map(text))
                })
                .map_err(|_| ())
        });
        let expected = expected.map(|script| script.map(|(name, arg)| (name.to_owned(), arg.map(str::to_owned))));
        assert_eq!(got, expected, "{:?}", String::from_utf8_lossy(content));
    }

    #[test]
    fn lines_are_read_as_linux_reads_them() {
        check(b"#!/bin/sh\necho", Some(Ok(("/bin/sh", None))));
        check(b"#!/bin/sh", Some(Ok(("/bin/sh", None))));
        check(b"#! \t/bin/sh  a b  \t\n", Some(Ok(("/bin/sh", Some("a b")))));
        check(b"#!/bin/sh\0 foo\n", Some(Ok(("/bin/sh", None))));
        check(b"#!sh\n", Some(Ok(("sh", None))));
        check(b"#!\n", Some(Err(())));
        check(b"#!   \n", Some(Err(())));
        check(b"#!   ", Some(Ok(("", None))));
        check(b"echo\n", None);
        check(b"", None);
    }

    #[test]
    fn a_name_that_may_be_cut_is_refused_but_an_argument_is_cut() {
        let mut long = b"#!/".to_vec();
        long.resize(400, b'a');
        check(&long, Some(Err(())));
        let mut argument = b"#!/bin/sh ".to_vec();
        argument.resize(400, b'a');
        check(&argument, Some(Ok(("/bin/sh", Some(&"a".repeat(245))))));
    }
}
