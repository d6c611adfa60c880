//! The scripted personality as a signed shared object: compiled, signed with a key of the test's own, and loaded.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is part of the tests")]

use crate::personality::{Event, Script};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vmm::foreign::{ForeignProvider, Keyring, LoadError, SecretKey, Signature, Statement, Usage, load, signature_path};
use vmm::pico::{Chance, ExitReason, Host, HostConfig, Posting, Process, ProcessKind, Thread};
use zeroize::Zeroizing;

/// The folder with the shared objects. A machine without a compiler is given them.
pub fn objects() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("PICOVISOR_TEST_OBJECTS") {
            return folder.into();
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
        std::fs::create_dir_all(&folder).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/build.sh");
        let status = Command::new("sh").arg(script).arg(&folder).status().unwrap();
        assert!(status.success(), "this test needs a C compiler: {script} failed");
        folder
    })
}

/// A key that is good for `usage`, one for each number.
pub fn key(number: u8, usage: &str) -> SecretKey {
    let usage = Usage::new(usage).unwrap();
    SecretKey::from_seed(&Zeroizing::new([number; 32]), vec![usage]).unwrap()
}

/// A folder with a copy of an object, the key to sign it with, and who trusts that key.
#[derive(Debug)]
pub struct Workshop {
    folder: tempfile::TempDir,
    pub key: SecretKey,
    pub ring: Keyring,
}

impl Workshop {
    /// Copies an object; it is not signed yet.
    pub fn with(name: &str) -> Self {
        let key = key(1, "picovisor provider");
        let mut ring = Keyring::default();
        ring.insert(key.public());
        let workshop = Self { folder: tempfile::tempdir().unwrap(), key, ring };
        std::fs::copy(objects().join(name), workshop.object()).unwrap();
        workshop
    }

    pub fn object(&self) -> PathBuf {
        self.folder.path().join("object.so")
    }

    pub fn signature(&self) -> PathBuf {
        signature_path(&self.object())
    }

    /// Signs the object as it is now.
    pub fn sign(&self) {
        self.sign_with(&self.key, Usage::provider());
    }

    pub fn sign_with(&self, key: &SecretKey, usage: Usage) {
        let object = std::fs::read(self.object()).unwrap();
        let statement = Statement::about(&object, "Script", usage).unwrap();
        std::fs::write(self.signature(), Signature::new(statement, key).text()).unwrap();
    }

    pub fn load(&self, host: &Host, parameters: &str) -> Result<ForeignProvider, LoadError> {
        self.load_witnessed(host, parameters).0
    }

    /// Loads the object; also tells how many constructors have run meanwhile.
    pub fn load_witnessed(&self, host: &Host, parameters: &str) -> (Result<ForeignProvider, LoadError>, usize) {
        // They all write to one descriptor, so objects are loaded one after the other.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let witness = Witness::place();
        let result = load(host, &self.object(), &self.ring, parameters.as_bytes());
        (result, witness.count())
    }
}

/// Records what an object says has happened.
#[derive(Debug, Default)]
pub struct Recorder {
    pub script: Arc<Script>,
    /// Contexts that it was given back: of processes, of threads.
    pub given_back: [AtomicUsize; 2],
}

impl Recorder {
    /// Starts to record; returns the parameter that tells an object where to. The descriptor stays open for good: the host
    /// may give a context back whenever the last holder of a process lets go.
    pub fn start() -> (Arc<Self>, String) {
        let (from, to) = std::io::pipe().unwrap();
        let recorder = Arc::new(Self::default());
        let records = File::from(std::os::fd::OwnedFd::from(from));
        let its = recorder.clone();
        std::thread::spawn(move || its.record(records));
        (recorder, format!("events={}", to.into_raw_fd()))
    }

    fn record(&self, mut from: File) {
        let mut bytes = [0; 40];
        while from.read_exact(&mut bytes).is_ok() {
            let words: [u64; 5] =
                std::array::from_fn(|index| u64::from_le_bytes(bytes[8 * index..][..8].try_into().unwrap()));
            let [kind, a, b, c, d] = words;
            let narrow = |word| u8::try_from(word).unwrap();
            let event = match kind {
                0 => Event::Note(a),
                1 => Event::Exception { vector: narrow(a), error: u32::try_from(b).unwrap(), address: c, rip: d },
                2 => Event::Unhandled(if a == 1 { Chance::First } else { Chance::Second }),
                3 => Event::IoFault(a),
                4 => Event::Kick,
                5 => Event::Exit(a),
                6 => Event::ThreadEnd(reason(a)),
                7 => Event::ProcessEnd(reason(a)),
                8 => {
                    let mut logged = vec![0; usize::try_from(a).unwrap()];
                    from.read_exact(&mut logged).unwrap();
                    self.script.push_log(&logged);
                    continue;
                }
                9 => {
                    self.given_back[usize::from(narrow(a))].fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                10 => Event::Terminate,
                other => panic!("the object has said {other}, which is nothing"),
            };
            self.script.push(event);
        }
    }
}

fn reason(number: u64) -> ExitReason {
    [ExitReason::Exited, ExitReason::Terminated, ExitReason::Failed, ExitReason::Unhandled]
        [usize::try_from(number).unwrap()]
}

/// A host with the shared object in charge.
#[derive(Debug)]
pub struct ForeignRig {
    pub recorder: Arc<Recorder>,
    pub provider: ForeignProvider,
    pub host: Host,
}

impl ForeignRig {
    /// Opens KVM and loads the object; `None` where the environment says that there is no KVM. The parameter is a word that
    /// the object understands.
    pub fn open(word: &str) -> Option<Self> {
        if std::env::var_os("PICOVISOR_NO_KVM").is_some() {
            println!("skipped: PICOVISOR_NO_KVM is set");
            return None;
        }
        let host = match Host::open(&HostConfig { memory: 1 << 30, vcpus: None, posting: Posting::default() }) {
            Ok(host) => host,
            Err(error) => panic!("this test needs KVM: {error}"),
        };
        Some(Self::on(host, word))
    }

    /// Loads the object on a host.
    pub fn on(host: Host, word: &str) -> Self {
        let workshop = Workshop::with("script.so");
        workshop.sign();
        let (recorder, events) = Recorder::start();
        let provider = workshop.load(&host, format!("{events} {word}").trim_end()).unwrap();
        Self { recorder, provider, host }
    }

    /// Starts a process with a payload, whose first thread has this in rdi.
    pub fn start(&self, payload: &[u8], rdi: u64) {
        self.provider.start(&[&rdi.to_le_bytes(), payload].concat()).unwrap();
    }

    /// The only pico process that is alive, and its only thread.
    pub fn found(&self) -> (Arc<Process>, Arc<Thread>) {
        let pico: Vec<_> =
            self.host.processes().into_iter().filter(|process| process.kind() == ProcessKind::Pico).collect();
        let [process] = &pico[..] else { panic!("there are {} processes", pico.len()) };
        let threads = process.threads();
        let [thread] = &threads[..] else { panic!("there are {} threads", threads.len()) };
        (process.clone(), thread.clone())
    }
}

/// A pipe at the descriptor that constructors of the objects write to.
struct Witness {
    from: File,
}

impl Witness {
    const DESCRIPTOR: i32 = 911;

    /// Waits for constructors.
    fn place() -> Self {
        let (from, to) = std::io::pipe().unwrap();
        // SAFETY: two descriptors; whatever had this number, which nobody else uses, is replaced.
        assert_eq!(unsafe { libc::dup2(to.as_raw_fd(), Self::DESCRIPTOR) }, Self::DESCRIPTOR);
        Self { from: File::from(std::os::fd::OwnedFd::from(from)) }
    }

    /// Tells how many constructors have run.
    fn count(mut self) -> usize {
        // SAFETY: the descriptor that `place` has made, closed once.
        assert_eq!(unsafe { libc::close(Self::DESCRIPTOR) }, 0);
        let mut all = Vec::new();
        self.from.read_to_end(&mut all).unwrap();
        all.len()
    }
}
