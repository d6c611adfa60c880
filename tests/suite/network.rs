//! `--net host`: a program reaches what it would reach outside, by names of the host's resolver and through its interfaces, and the
//! host's own Unix sockets remain out of reach.

use crate::harness::{Command, Link, assert_same, need_kvm, program_with};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The question's type for IPv4 addresses, and for IPv6 addresses.
const A: u8 = 1;
const AAAA: u8 = 28;

/// The answer of a name server that knows both.test and nothing else.
fn answer(question: &[u8]) -> Vec<u8> {
    /// Bytes of a message's header.
    const HEAD: usize = 12;
    let name = b"\x04both\x04test\0";
    let end = HEAD + question[HEAD..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let kind = question[end - 3];
    let is_known = question[HEAD..].starts_with(name);
    let address: &[u8] = match kind {
        A if is_known => &[127, 0, 0, 42],
        AAAA if is_known => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42],
        _ => &[],
    };
    let count = u8::from(!address.is_empty());
    let code = if is_known { 0 } else { 3 };
    let mut reply = [&question[..2], &[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], &question[HEAD..end]].concat();
    if count > 0 {
        let len = u8::try_from(address.len()).unwrap();
        reply.extend([0xc0, 0x0c, 0, kind, 0, 1, 0, 0, 0, 60, 0, len]);
        reply.extend(address);
    }
    reply
}

/// Serves names; returns the port. The thread ends with the test's process.
fn serve_names() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&answer(&question[..len]), from);
        }
    });
    port
}

/// Sends everything back; returns the port.
fn serve_echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut bytes = [0; 512];
            while let Ok(len @ 1..) = connection.read(&mut bytes) {
                let _ = connection.write_all(&bytes[..len]);
            }
        }
    });
    port
}

fn guest() -> std::path::PathBuf {
    program_with("host_network.c", Link::Dynamic, &["-lresolv"])
}

#[test]
fn the_hosts_network_is_the_programs() {
    need_kvm!();
    let (names, echo) = (serve_names().to_string(), serve_echo().to_string());
    let command = Command::new(guest()).args([&names, &echo]);
    let native = command.run();
    assert_eq!(native.status, 0, "{command} is broken natively:\n{native:?}");
    assert!(native.text().contains("both.test: found\n  127.0.0.42\n") && native.text().contains("there and back"));
    let ours = command.sandboxed(&["--net".as_ref(), "host".as_ref()]).run();
    assert_same(&command, &native, &ours);
}

#[test]
fn without_the_hosts_network_its_servers_are_out_of_reach() {
    need_kvm!();
    let (names, echo) = (serve_names().to_string(), serve_echo().to_string());
    let ours = Command::new(guest()).args([&names, &echo]).sandboxed(&[]).run();
    let text = ours.text();
    assert!(text.contains("both.test: Temporary failure in name resolution"), "{text}");
    assert!(text.contains("connect(fd, (void *)&to, sizeof to) = -1 ECONNREFUSED"), "{text}");
}

#[test]
fn the_hosts_unix_sockets_are_out_of_reach_whatever_the_network() {
    need_kvm!();
    let name = format!("picovisor-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let command = Command::new(guest()).arg(&name);
    assert!(command.run().text().ends_with(": ok\n"));
    for network in ["none", "host"] {
        let ours = command.sandboxed(&["--net".as_ref(), network.as_ref()]).run();
        assert!(ours.text().ends_with(": ECONNREFUSED\n"), "{ours:?}");
    }
}
