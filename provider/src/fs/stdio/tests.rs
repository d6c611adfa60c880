use super::*;
use crate::fs::{BufferSink, BufferSource, OpenFile, Ready, Sink};
use crate::testing::{config, fixture, fixture_with};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::io::{Read, Seek, Write};

fn read(task: &CurrentTask<'_>, file: &OpenFile, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let got = file.read(task, &mut BufferSink::new(&mut bytes))?;
    bytes.truncate(got);
    Ok(bytes)
}

fn write(task: &CurrentTask<'_>, file: &OpenFile, bytes: &[u8]) -> Result<usize, Errno> {
    file.write(task, &mut BufferSource::new(bytes))
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

#[test]
fn an_empty_pipe_would_block_and_a_closed_one_ends() {
    let mut fixture = fixture();
    let task = fixture.current();
    let (reader, writer) = pipe();
    let file = adopt(&task, reader).unwrap();
    assert_eq!(read(&task, &file, 4), Err(Errno::EAGAIN));
    assert!(!file.file().ready().contains(Ready::IN));
    rustix::io::write(&writer, b"abcdef").unwrap();
    assert!(file.file().ready().contains(Ready::IN));
    assert_eq!(read(&task, &file, 4).unwrap(), b"abcd");
    assert_eq!(read(&task, &file, 4).unwrap(), b"ef");
    drop(writer);
    assert_eq!(read(&task, &file, 4).unwrap(), b"");
    assert!(file.file().ready().contains(Ready::HUP));
    assert_eq!(file.seek(0, 1), Err(Errno::ESPIPE));
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EBADF));
}

#[test]
fn a_full_pipe_takes_what_fits_and_keeps_its_blocking_mode() {
    let mut fixture = fixture();
    let task = fixture.current();
    let (reader, writer) = pipe();
    let room = fcntl_setpipe_size(&writer, 16384).unwrap();
    let watch = fcntl_dupfd_cloexec(&writer, 3).unwrap();
    let file = adopt(&task, writer).unwrap();
    let written = write(&task, &file, &vec![7; room + 5000]).unwrap();
    assert_eq!(written, room);
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EAGAIN));
    assert!(!fcntl_getfl(&watch).unwrap().contains(OFlags::NONBLOCK));
    let mut taken = vec![0; 8192];
    assert_eq!(rustix::io::read(&reader, &mut taken[..]).unwrap(), 8192);
    // A write of at most PIPE_BUF bytes is all or nothing; a longer one takes what fits.
    assert_eq!(write(&task, &file, &[8; 4096]), Ok(4096));
    assert_eq!(write(&task, &file, &[8; 9000]), Ok(4096));
    drop(reader);
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EPIPE));
    assert!(file.file().ready().contains(Ready::ERR));
}

#[test]
fn a_pipe_without_rwf_nowait_never_blocks_either() {
    let (reader, writer) = pipe();
    let room = fcntl_setpipe_size(&writer, 16384).unwrap();
    let stream = HostStream::without_nowait(writer);
    assert_eq!(stream.write(&mut BufferSource::new(&vec![1; room + 1])), Ok(room));
    assert_eq!(stream.write(&mut BufferSource::new(b"x")), Err(Errno::EAGAIN));
    drop(reader);
}

#[test]
fn a_socket_is_written_without_blocking() {
    let mut fixture = fixture();
    let task = fixture.current();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = adopt(&task, ours.into()).unwrap();
    assert_eq!(file.location().kind(), FileKind::Socket);
    let lot = vec![3; 8 << 20];
    let written = write(&task, &file, &lot).unwrap();
    assert!(written > 0 && written < lot.len(), "{written}");
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EAGAIN));
    drop(theirs);
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EPIPE));
    let again = file.location().inode().clone().open(&task, OpenFlags::RDWR);
    assert!(matches!(again, Err(Errno::ENXIO)));
}

#[test]
fn a_regular_file_shares_the_callers_position() {
    let mut fixture = fixture();
    let task = fixture.current();
    let mut host = tempfile::tempfile().unwrap();
    host.write_all(b"0123456789").unwrap();
    host.seek(std::io::SeekFrom::Start(2)).unwrap();
    let file = adopt(&task, host.try_clone().unwrap().into()).unwrap();
    assert_eq!(file.offset(), 2);
    assert_eq!(read(&task, &file, 3).unwrap(), b"234");
    assert_eq!(host.stream_position().unwrap(), 5);
    host.seek(std::io::SeekFrom::Start(8)).unwrap();
    assert_eq!(read(&task, &file, 9).unwrap(), b"89");
    assert_eq!(file.seek(-1, 2), Ok(9));
    assert_eq!(host.stream_position().unwrap(), 9);
    assert_eq!(write(&task, &file, b"ab"), Ok(2));
    let mut bytes = [0; 2];
    assert_eq!(file.read_at(&task, 9, &mut BufferSink::new(&mut bytes)), Ok(2));
    assert_eq!((&bytes, host.stream_position().unwrap()), (b"ab", 11));
    assert_eq!(file.seek(-1, 0), Err(Errno::EINVAL));
    assert_eq!(file.seek(99, 3), Err(Errno::ENXIO));
}

#[test]
fn opened_anew_a_regular_file_has_a_position_of_its_own_and_no_more_rights() {
    let mut fixture = fixture();
    let task = fixture.current();
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), b"abcdef").unwrap();
    let host = std::fs::File::open(named.path()).unwrap();
    rustix::fs::seek(&host, SeekFrom::Start(4)).unwrap();
    let file = adopt(&task, host.into()).unwrap();
    let inode = file.location().inode().clone();
    assert!(matches!(inode.clone().open(&task, OpenFlags::RDWR), Err(Errno::EACCES)));
    let again = inode.clone().open(&task, OpenFlags::empty()).unwrap();
    let again = OpenFile::new(again, file.location().clone(), OpenFlags::empty());
    assert_eq!(read(&task, &again, 3).unwrap(), b"abc");
    assert_eq!(read(&task, &file, 3).unwrap(), b"ef");
    let stat = inode.stat().unwrap();
    let host = rustix::fs::stat(named.path()).unwrap();
    assert_eq!((stat.device, stat.inode, stat.size, stat.kind), (host.st_dev, host.st_ino, 6, FileKind::Regular));
    assert_eq!(file.location().path(), named.path().as_os_str().as_encoded_bytes());
    assert!(!file.location().is_removed());
}

#[test]
fn appends_go_to_the_end_whoever_wrote_before() {
    let mut fixture = fixture();
    let task = fixture.current();
    let named = tempfile::NamedTempFile::new().unwrap();
    let mut host = std::fs::OpenOptions::new().append(true).open(named.path()).unwrap();
    let file = adopt(&task, host.try_clone().unwrap().into()).unwrap();
    assert!(file.flags().contains(OpenFlags::APPEND));
    write(&task, &file, b"a").unwrap();
    host.write_all(b"b").unwrap();
    write(&task, &file, b"c").unwrap();
    let mut text = String::new();
    std::fs::File::open(named.path()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
}

#[test]
fn the_hosts_null_device_is_the_sandboxs_own() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let host = std::fs::File::open("/dev/null").unwrap();
    let file = adopt(&task, host.into()).unwrap();
    assert_eq!(file.location().path(), b"/dev/null");
    assert!(file.location().mount().is_some());
    assert_eq!(read(&task, &file, 3).unwrap(), b"");
    assert_eq!(write(&task, &file, b"x"), Err(Errno::EBADF));
}

#[test]
fn nothing_is_read_into_an_empty_buffer() {
    let (reader, _writer) = pipe();
    let stream = HostStream::new(reader, StreamKind::Pipe);
    let mut sink = BufferSink::new(&mut []);
    assert_eq!(sink.remaining(), 0);
    assert_eq!(stream.read(&mut sink), Ok(0));
}
