//! `picovisor provider`: keys, signatures, and what is refused.

use crate::harness::{Command, Outcome, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn provider(folder: &Path, args: &[&str]) -> Outcome {
    Command::picovisor().arg("provider").args(args).folder(folder).run()
}

#[track_caller]
fn succeeds(folder: &Path, args: &[&str]) -> String {
    let outcome = provider(folder, args);
    assert_eq!((outcome.status, outcome.errors().as_str()), (0, ""), "{args:?}");
    outcome.text()
}

/// Runs a command that must fail, and returns what it said.
#[track_caller]
fn fails(folder: &Path, args: &[&str]) -> String {
    let outcome = provider(folder, args);
    assert_eq!((outcome.status, outcome.text().as_str()), (125, ""), "{args:?}");
    outcome.errors()
}

#[track_caller]
fn assert_says(text: &str, words: &str) {
    assert!(text.contains(words), "{words:?} is not in {text:?}");
}

#[test]
fn a_signed_object_is_good_until_something_changes() {
    let scratch = scratch();
    let folder = scratch.path();
    fs::write(folder.join("thing.so"), b"an object").unwrap();
    let verify = ["verify", "thing.so", "--keys", "me.pub"];
    let said = fails(folder, &verify);
    assert_says(&said, "me.pub: No such file or directory");
    assert!(!said.contains("os error"), "{said}");
    succeeds(folder, &["keygen", "me"]);
    assert_says(&fails(folder, &verify), "not signed: there is no thing.so.sig");
    let signed = succeeds(folder, &["sign", "thing.so", "--key", "me.key", "--name", "Thing 2"]);
    assert_says(&signed, "thing.so.sig");
    assert_says(&succeeds(folder, &verify), "Thing 2");

    fs::write(folder.join("thing.so"), b"an Object").unwrap();
    assert_says(&fails(folder, &verify), "the object was changed after it was signed");
    assert_says(&fails(folder, &["sign", "thing.so", "--key", "me.key"]), "exists, and is not overwritten");
    succeeds(folder, &["sign", "thing.so", "--key", "me.key", "--force"]);
    assert_says(&succeeds(folder, &verify), "name        thing\n");

    let signature = fs::read_to_string(folder.join("thing.so.sig")).unwrap();
    fs::write(folder.join("thing.so.sig"), signature.replace("name: thing", "name: other")).unwrap();
    assert_says(&fails(folder, &verify), "the signature file was changed");
    fs::write(folder.join("thing.so.sig"), signature.replace("signature 1", "signature 2")).unwrap();
    assert_says(&fails(folder, &verify), "format version 2");
}

#[test]
fn keys_are_private_never_overwritten_and_for_their_usage_only() {
    let scratch = scratch();
    let folder = scratch.path();
    fs::write(folder.join("a.so"), b"an object").unwrap();
    succeeds(folder, &["keygen", "first"]);
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("first.key"), 0o600);
    let (secret, public) = (fs::read(folder.join("first.key")).unwrap(), fs::read(folder.join("first.pub")).unwrap());
    assert_says(&fails(folder, &["keygen", "first"]), "exists, and is not overwritten");
    fs::remove_file(folder.join("first.pub")).unwrap();
    assert_says(&fails(folder, &["keygen", "first"]), "exists, and is not overwritten");
    assert!(!folder.join("first.pub").exists(), "half a pair was left behind");
    assert_eq!(fs::read(folder.join("first.key")).unwrap(), secret);
    fs::write(folder.join("first.pub"), &public).unwrap();

    // Two keys differ; who trusts the one does not trust the other.
    succeeds(folder, &["keygen", "second"]);
    assert_ne!(fs::read(folder.join("second.pub")).unwrap(), public);
    succeeds(folder, &["sign", "a.so", "--key", "first.key"]);
    assert_says(&fails(folder, &["verify", "a.so", "--keys", "second.pub"]), "a key that is not trusted: ");

    succeeds(folder, &["keygen", "other", "--usage", "something else"]);
    assert_says(&fails(folder, &["sign", "a.so", "--key", "other.key", "--force"]), "not for \"picovisor provider\"");
    succeeds(folder, &["sign", "a.so", "--key", "other.key", "--force", "--usage", "something else"]);
    assert_says(&fails(folder, &["verify", "a.so", "--keys", "other.pub"]), "signed as \"something else\"");
}

#[test]
fn a_folder_of_keys_is_a_ring() {
    let scratch = scratch();
    let folder = scratch.path();
    fs::write(folder.join("a.so"), b"an object").unwrap();
    fs::create_dir(folder.join("ring")).unwrap();
    for name in ["ring/one", "ring/two"] {
        succeeds(folder, &["keygen", name]);
    }
    succeeds(folder, &["sign", "a.so", "--key", "ring/two.key"]);
    succeeds(folder, &["verify", "a.so", "--keys", "ring"]);
    fs::set_permissions(folder.join("ring"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_says(&fails(folder, &["verify", "a.so", "--keys", "ring"]), "others may write to it");
}
