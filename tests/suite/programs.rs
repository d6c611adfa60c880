//! Guest programs that print what the system answers: the native run is the specification.

use crate::harness::{Command, Link, Place, compare, need_kvm, program};

/// Runs one program in several builds and places; `$status` is what it must exit with natively.
macro_rules! programs {
    ($($name:ident: $source:literal $(args $args:expr)?, $(input $input:literal,)? in $($place:ident)|+, linked $($link:ident)|+, exits $status:literal;)*) => {
        /// Every source that has a line here.
        pub(crate) const SOURCES: &[&str] = &[$($source),*];
        $(
            #[test]
            fn $name() {
                need_kvm!();
                for link in [$(Link::$link),+] {
                    for place in [$(Place::$place),+] {
                        let command = Command::new(program($source, link))$(.args($args))?$(.input($input))?;
                        let native = compare(&command, place);
                        assert_eq!(native.status, $status, "{command} is broken natively:\n{native:?}");
                        assert!(!native.text().contains("set-up failed"), "{command} is broken natively:\n{native:?}");
                    }
                }
            }
        )*
    };
}

programs! {
    hello: "hello.c" args ["3", "two words", ""], in Memory, linked Static | StaticPie | Dynamic | Musl | MuslDynamic, exits 3;
    nolibc: "nolibc.S", in Memory, linked Bare, exits 42;
    auxiliary: "auxiliary.c" args ["x", "y"], in Overlay, linked Static | StaticPie | Dynamic | Musl, exits 0;
    identity: "identity.c", in Memory, linked Static, exits 0;
    files: "files.c", in HostFolder | Overlay | Memory, linked Static | Musl, exits 0;
    dirs: "dirs.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    rename: "rename.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    metadata: "metadata.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    vectors: "vectors.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    descriptors: "descriptors.c", in HostFolder | Memory, linked Static, exits 0;
    paths: "paths.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    mappings: "mappings.c", in Memory, linked Static | Dynamic, exits 0;
    remap: "remap.c", in Memory, linked Static, exits 0;
    filemap: "filemap.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    signals: "signals.c", in Memory, linked Static | Dynamic, exits 0;
    frames: "frames.c", in Memory, linked Static | Dynamic, exits 0;
    breakpoints: "breakpoints.c", in Memory, linked Static, exits 0;
    faults: "faults.c", in Memory, linked Static | Dynamic, exits 0;
    time: "time.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    clocks: "clocks.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    vdso: "vdso.c", in Memory, linked Static | Dynamic, exits 0;
    getrandom: "getrandom.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    timers: "timers.c", in Memory, linked Static, exits 0;
    limits: "limits.c", in Memory, linked Static, exits 0;
    proc: "proc.c", in Memory, linked Static, exits 0;
    pipes: "pipes.c", in HostFolder | Overlay | Memory, linked Static | Musl, exits 0;
    unix_sockets: "unix_sockets.c", in Memory | Overlay, linked Static | Musl, exits 0;
    epoll: "epoll.c", in Memory, linked Static | Dynamic, exits 0;
    inet_sockets: "inet_sockets.c", in Memory, linked Static, exits 0;
    socket_details: "socket_details.c", in Memory, linked Static | Dynamic, exits 0;
    sigio: "sigio.c", in Memory, linked Static, exits 0;
    posts: "posts.c", in Memory, linked Static | Dynamic, exits 0;
    masks: "masks.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    wakes: "wakes.c", in Memory, linked Static | Dynamic, exits 0;
    aio: "aio.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    splice: "splice.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    polling: "polling.c", input "a line\n", in Memory, linked Static | Dynamic, exits 0;
    jobs: "jobs.c", in Memory, linked Static | Musl, exits 0;
    ptys: "ptys.c", in Memory, linked Static | Musl, exits 0;
    exec: "exec.c", in HostFolder | Overlay, linked Static | Dynamic, exits 3;
    simd: "simd.c", in Memory, linked Static, exits 0;
    unknown: "unknown.c", in Memory, linked Static, exits 0;
    processes: "processes.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    clones: "clones.c", in Memory, linked Static, exits 0;
    futexes: "futexes.c", in Memory, linked Static, exits 0;
    prctl: "prctl.c", in Memory, linked Static | Dynamic, exits 0;
    seccomp: "seccomp.c", in Memory, linked Static | Dynamic, exits 0;
    ptrace: "ptrace.c", in Memory, linked Static | Dynamic, exits 0;
    scheduling: "scheduling.c", in Memory, linked Static, exits 0;
    inotify: "inotify.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    seals: "seals.c", in Overlay | HostFolder, linked Static, exits 0;
    threads: "threads.c", in Memory, linked Static | Dynamic | Musl, exits 11;
    crowd: "crowd.c" args ["1500"], in Memory, linked Static, exits 0;
    leases: "leases.c", in HostFolder | Overlay | Memory, linked Static, exits 0;
    mqueue: "mqueue.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    sysvipc: "sysvipc.c", in Memory, linked Static, exits 0;
    stops: "stops.c", in Memory, linked Static | Musl, exits 0;
    restarts: "restarts.c", in Memory, linked Static, exits 0;
    cores: "cores.c", in HostFolder | Overlay | Memory, linked Static | Dynamic, exits 0;
    sites: "sites.c", in Memory, linked Static | Dynamic | Musl, exits 0;
    stdio: "stdio.c", input "some input\nmore", in Memory, linked Static | Dynamic, exits 0;
}
