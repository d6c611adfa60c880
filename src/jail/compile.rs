//! The table as a program of classic BPF: a search tree over the calls' numbers, whose leaves allow, refuse or look at an
//! argument.
//!
//! seccompiler compiles tables as well, to one comparison after another: 827 instructions for this one, which the host took
//! 0.3 to 0.5 ms to take, a tenth of a start. These are 360 and take it 0.1 to 0.15. The crate's type of instructions and
//! its way to hand them to the host are used. A tree of comparisons with constants is also what the host can judge beforehand: calls that it finds
//! always allowed run no filter at all (kernel/seccomp.c, seccomp_is_const_allow).

use super::rules::{ABSENT, Arguments, REQUESTS, RULES, Rule};
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long};
use seccompiler::{BpfProgram, sock_filter};
use vmm::KVM_REQUESTS;

/// Where things are in what a filter sees (struct seccomp_data): the call's number, the architecture, six arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// x86-64 (linux/audit.h).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// What becomes of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Refuse,
    Allow,
    /// There is no such call ([`ABSENT`]).
    Missing,
    /// It depends on an argument: the rule's index.
    Look(usize),
}

/// What a call ends in that there is not.
const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Compiles the lines of the table that `allowed` picks, for a monitor whose process is `own`. Of the calls that do not exist, `without`
/// is refused as others are.
pub(super) fn program(allowed: impl Fn(&Rule) -> bool, without: Option<&str>, own: u32, refusal: u32) -> BpfProgram {
    let last = RULES.iter().filter_map(|rule| number(rule.call)).max();
    let mut verdicts = vec![Verdict::Refuse; last.map_or(0, |last| last + 2)];
    for (index, rule) in RULES.iter().enumerate().filter(|(_, rule)| allowed(rule)) {
        if let Some(verdict) = number(rule.call).and_then(|number| verdicts.get_mut(number)) {
            *verdict = if matches!(rule.arguments, Arguments::Any) { Verdict::Allow } else { Verdict::Look(index) };
        }
    }
    for absent in ABSENT.iter().filter(|absent| Some(absent.name) != without) {
        if let Some(verdict) = number(absent.call).and_then(|number| verdicts.get_mut(number))
            && *verdict == Verdict::Refuse
        {
            *verdict = Verdict::Missing;
        }
    }
    let mut pieces: Vec<(u32, Verdict)> = Vec::new();
    for (number, verdict) in (0..).zip(verdicts) {
        if pieces.last().is_none_or(|(_, last)| *last != verdict) {
            pieces.push((number, verdict));
        }
    }
    let begin = [load(ARCHITECTURE), jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0), ret(refusal), load(NUMBER)];
    let leaf = |verdict| match verdict {
        Verdict::Refuse => vec![ret(refusal)],
        Verdict::Allow => vec![ret(libc::SECCOMP_RET_ALLOW)],
        Verdict::Missing => vec![ret(MISSING)],
        Verdict::Look(index) => look(&RULES[index], own, refusal),
    };
    [&begin[..], &tree(&pieces, &leaf)].concat()
}

/// A program that refuses some calls, for a process whose other filter says what is to become of the others.
pub(super) fn refuse(calls: &[c_long], refusal: u32) -> BpfProgram {
    let (missing, refused): (Vec<_>, Vec<_>) = calls.iter().copied().partition(|call| is_absent(*call));
    chosen(&refused, ret(refusal), &missing, ret(libc::SECCOMP_RET_ALLOW))
}

/// A program that refuses all calls but some, for a thread whose other filter has looked at the architecture and at arguments.
pub(super) fn only(calls: &[c_long], refusal: u32) -> BpfProgram {
    let missing: Vec<_> = ABSENT.iter().map(|absent| absent.call).filter(|call| !calls.contains(call)).collect();
    chosen(calls, ret(libc::SECCOMP_RET_ALLOW), &missing, ret(refusal))
}

fn is_absent(call: c_long) -> bool {
    ABSENT.iter().any(|absent| absent.call == call)
}

/// A program that ends in `these` for some calls, says of `missing` that they do not exist, and ends in `others` for all others.
fn chosen(calls: &[c_long], these: sock_filter, missing: &[c_long], others: sock_filter) -> BpfProgram {
    // How many instructions behind the compares the end for each lies.
    let ends = calls.iter().map(|call| (call, 1)).chain(missing.iter().map(|call| (call, 2)));
    let ends: Vec<(u32, usize)> = ends.filter_map(|(call, end)| Some((u32::try_from(*call).ok()?, end))).collect();
    let reach =
        |index: usize, end| u8::try_from(ends.len() - 1 - index + end).expect("fewer calls than a jump reaches");
    let compare = |(index, (call, end)): (usize, &(u32, usize))| jump(BPF_JEQ, *call, reach(index, *end), 0);
    let compares: Vec<_> = ends.iter().enumerate().map(compare).collect();
    [&[load(NUMBER)][..], &compares, &[others, these, ret(MISSING)]].concat()
}

fn number(call: c_long) -> Option<usize> {
    usize::try_from(call).ok()
}

/// Finds the piece that the number in the accumulator lies in: each begins at its number.
fn tree(pieces: &[(u32, Verdict)], leaf: &impl Fn(Verdict) -> BpfProgram) -> BpfProgram {
    match pieces {
        [] => Vec::new(),
        [(_, verdict)] => leaf(*verdict),
        _ => {
            let (left, right) = pieces.split_at(pieces.len() / 2);
            let (lower, upper) = (tree(left, leaf), tree(right, leaf));
            let begin = match u8::try_from(lower.len()) {
                Ok(over) => vec![jump(BPF_JGE, right[0].0, over, 0)],
                // A conditional jump reaches 255 instructions, the other any.
                Err(_) => {
                    let over = u32::try_from(lower.len()).unwrap_or(u32::MAX);
                    vec![jump(BPF_JGE, right[0].0, 0, 1), jump(BPF_JA, over, 0, 0)]
                }
            };
            [begin, lower, upper].concat()
        }
    }
}

/// Looks at the argument that a rule speaks of.
fn look(rule: &Rule, own: u32, refusal: u32) -> BpfProgram {
    match rule.arguments {
        Arguments::Any => vec![ret(libc::SECCOMP_RET_ALLOW)],
        Arguments::Requests(at) => {
            let known: Vec<_> = KVM_REQUESTS.iter().chain(REQUESTS).map(|(_, number)| *number).collect();
            one_of(at, &known, refusal)
        }
        Arguments::OneOf(at, values) => one_of(at, values, refusal),
        Arguments::Process(at, whose) => {
            one_of(at, &[if whose == super::rules::Whose::Own { own } else { 0 }], refusal)
        }
        Arguments::Bits(at, mask, value) => {
            vec![
                load(argument(at)),
                statement(BPF_ALU | BPF_AND | BPF_K, 0, 0, mask),
                jump(BPF_JEQ, value, 0, 1),
                ret(libc::SECCOMP_RET_ALLOW),
                ret(refusal),
            ]
        }
    }
}

/// Allows a call whose argument's lower half is one of some values.
fn one_of(at: u8, values: &[u32], refusal: u32) -> BpfProgram {
    let count = values.len();
    let allowed = |index: usize| u8::try_from(count - index).expect("fewer values than a jump reaches");
    let compare = |(index, value): (usize, &u32)| jump(BPF_JEQ, *value, allowed(index), 0);
    let compares: Vec<_> = values.iter().enumerate().map(compare).collect();
    [&[load(argument(at))][..], &compares, &[ret(refusal), ret(libc::SECCOMP_RET_ALLOW)]].concat()
}

/// Where the lower half of an argument is: the kernel ignores the upper halves of those that are looked at.
fn argument(at: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(at)
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    statement(BPF_JMP | condition | BPF_K, jt, jf, k)
}

fn ret(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, 0, 0, action)
}

/// An instruction (linux/filter.h).
fn statement(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("an instruction's code has 16 bits"), jt, jf, k }
}
