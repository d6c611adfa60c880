use crate::errno::Errno;
use crate::testing::{Fixture, fixture};
use linux_raw_sys::general::{
    __NR_eventfd2, __NR_io_cancel, __NR_io_destroy, __NR_io_getevents, __NR_io_setup, __NR_io_submit, __NR_pipe,
    __NR_write,
};
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

/// Where the scene has what: the word for the context, a request, the pointer to it, events, a time, bytes.
const CONTEXT: u64 = 0;
const REQUEST: u64 = 64;
const POINTER: u64 = 128;
const EVENTS: u64 = 256;
const NO_TIME: u64 = 512;
const BYTES: u64 = 1024;

struct Scene {
    fixture: Fixture,
    at: u64,
    context: u64,
    ends: [u64; 2],
    eventfd: u64,
}

impl Scene {
    fn new() -> Self {
        let mut fixture = fixture();
        let at = fixture.allocate(4096).0;
        assert_eq!(fixture.returned(__NR_io_setup, &[4, at + CONTEXT]), Ok(0));
        assert_eq!(fixture.returned(__NR_pipe, &[at + BYTES]), Ok(0));
        let eventfd = fixture.returned(__NR_eventfd2, &[0, 0]).unwrap();
        let mut scene = Self { fixture, at, context: 0, ends: [0; 2], eventfd };
        scene.context = scene.word(CONTEXT);
        let ends = scene.word(BYTES);
        scene.ends = [ends & 0xffff_ffff, ends >> 32];
        scene
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fixture.task.mm().unwrap().read(UserAddr(self.at + offset), &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn put(&self, offset: u64, words: &[u64]) {
        self.fixture.task.mm().unwrap().write(UserAddr(self.at + offset), words.as_bytes()).unwrap();
    }

    /// Submits one request: operation, descriptor, buffer, length, with the eventfd to be told.
    fn submit(&mut self, operation: u64, fd: u64, buffer: u64, len: u64) -> Result<u64, Errno> {
        let told = 1 | self.eventfd << 32;
        self.put(REQUEST, &[7, 0, operation | fd << 32, buffer, len, 0, 0, told]);
        self.put(POINTER, &[self.at + REQUEST]);
        self.fixture.returned(__NR_io_submit, &[self.context, 1, self.at + POINTER])
    }

    /// The events that are there: what they say of the request and its result.
    fn events(&mut self) -> Vec<[u64; 3]> {
        let args = [self.context, 0, 4, self.at + EVENTS, self.at + NO_TIME];
        let count = self.fixture.returned(__NR_io_getevents, &args).unwrap();
        (0..count).map(|event| [0, 8, 16].map(|word| self.word(EVENTS + event * 32 + word))).collect()
    }
}

#[test]
fn contexts_have_a_size_and_a_place() {
    let mut scene = Scene::new();
    let mut setup = |events, at| scene.fixture.returned(__NR_io_setup, &[events, at]);
    assert_eq!(setup(4, scene.at + CONTEXT), Err(Errno::EINVAL));
    assert_eq!(setup(0, scene.at + EVENTS), Err(Errno::EINVAL));
    assert_eq!(setup(0x40_0001, scene.at + EVENTS), Err(Errno::EINVAL));
    assert_eq!(setup(0x1_0001, scene.at + EVENTS), Err(Errno::EAGAIN));
    assert_eq!(setup(0x1_0000, scene.at + EVENTS), Err(Errno::EAGAIN));
    assert_eq!(setup(4, 8), Err(Errno::EFAULT));
    let destroy = |scene: &mut Scene| scene.fixture.returned(__NR_io_destroy, &[scene.context]);
    assert_eq!(scene.fixture.returned(__NR_io_destroy, &[scene.at]), Err(Errno::EINVAL));
    assert_eq!(destroy(&mut scene), Ok(0));
    assert_eq!(destroy(&mut scene), Err(Errno::EINVAL));
    assert_eq!(scene.submit(0, 0, 0, 0), Err(Errno::EINVAL));
    assert_eq!(scene.fixture.current().kernel().aio().events(), 0);
}

#[test]
fn transfers_are_done_when_they_are_submitted() {
    let mut scene = Scene::new();
    let [reader, writer] = scene.ends;
    scene.put(BYTES, &[u64::from_ne_bytes(*b"sixteen ")]);
    assert_eq!(scene.submit(1, writer, scene.at + BYTES, 5), Ok(1));
    assert_eq!(scene.submit(0, reader, scene.at + BYTES + 64, 100), Ok(1));
    let request = scene.at + REQUEST;
    assert_eq!(scene.events(), [[7, request, 5], [7, request, 5]]);
    assert_eq!(scene.word(BYTES + 64).to_ne_bytes(), *b"sixte\0\0\0");
    assert_eq!(scene.submit(0, writer, scene.at + BYTES, 5), Err(Errno::EBADF));
    assert_eq!(scene.submit(0, 99, scene.at + BYTES, 5), Err(Errno::EBADF));
    assert_eq!(scene.submit(9, reader, scene.at + BYTES, 5), Err(Errno::EINVAL));
    assert_eq!(scene.submit(2, reader, 0, 0), Err(Errno::EINVAL));
    // The eventfd counted what was done.
    assert_eq!(scene.submit(0, scene.eventfd, scene.at + BYTES, 8), Ok(1));
    assert_eq!(scene.word(BYTES), 2);
    assert_eq!(scene.events().len(), 1);
}

#[test]
fn polls_wait_for_their_file() {
    let mut scene = Scene::new();
    let [reader, writer] = scene.ends;
    let request = scene.at + REQUEST;
    assert_eq!(scene.submit(5, reader, 0x1_0000, 0), Err(Errno::EINVAL));
    assert_eq!(scene.submit(5, reader, 1, 0), Ok(1));
    assert_eq!(scene.events(), [[0; 3]; 0]);
    assert_eq!(scene.fixture.returned(__NR_write, &[writer, scene.at, 1]), Ok(1));
    let wait = [scene.context, 1, 4, scene.at + EVENTS, 0];
    assert_eq!(scene.fixture.returned(__NR_io_getevents, &wait), Ok(1));
    assert_eq!((scene.word(EVENTS), scene.word(EVENTS + 16)), (7, 1));
    // One that is ready is done at once; one that is cancelled says that nothing is ready.
    assert_eq!(scene.submit(5, writer, 4, 0), Ok(1));
    assert_eq!(scene.events(), [[7, request, 4]]);
    assert_eq!(scene.submit(5, reader, 2, 0), Ok(1));
    let cancel = [scene.context, request, 0];
    assert_eq!(scene.fixture.returned(__NR_io_cancel, &cancel), Err(Errno::EINPROGRESS));
    assert_eq!(scene.fixture.returned(__NR_io_cancel, &cancel), Err(Errno::EINVAL));
    assert_eq!(scene.events(), [[7, request, 0]]);
}
