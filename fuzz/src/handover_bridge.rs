//! The whole control plane of another process, and what the two processes say to each other, as somebody may have made them up.
//!
//! Fed: a byte that says what; then changes of a state that a bridge has written, the bytes of a sealed state, the parts of one, a
//! message, or what happens to the running process and to the new one in an upgrade.
//! Held: nothing panics; a state is refused, or consistent: it is written again as it was read, clients, focus and time go on with it
//! and it expires; what is opened can be sealed again; whatever happens, the running process never goes on once it has committed, and
//! the new one serves only after that.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ringbridge_controlplane::bridge::fuzzing::{take_over, written};
use ringbridge_controlplane::upgrade::{
    Action, Hello, Input as Happened, Limits, MAX_REASON, Message, Outcome, PartName, Predecessor, StateParts, Step,
    Successor, SuccessorAction, SuccessorInput, open, seal,
};

use crate::edits;
use crate::input::Input;

/// Where the body of a sealed state begins, after magic, version, number of parts, length and checksum.
const BODY: usize = 8 + 2 + 2 + 8 + SHA256_OUTPUT_LEN;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 8 {
        0 => drop(open(input.rest())),
        1 => sealed(&mut input),
        2 => message(input.rest()),
        3 => upgrade(&mut input),
        _ => state(&mut input),
    }
}

fn state(input: &mut Input<'_>) {
    static WRITTEN: OnceLock<Vec<u8>> = OnceLock::new();
    let now = Instant::now();
    let original = WRITTEN.get_or_init(|| written(now));
    let unchanged = input.is_empty();
    let taken = take_over(now, edits::apply(original, input));
    assert!(taken.is_ok() || !unchanged, "what a bridge has written is refused: {taken:?}");
}

fn sealed(input: &mut Input<'_>) {
    let names = [PartName::Worker, PartName::Control, PartName::Xmpp, PartName::Descriptors];
    let mut parts = StateParts::default();
    for _ in 0..input.u8() % 8 {
        parts.insert(input.pick(&names), u16::from(input.u8()), input.bytes().to_vec().into());
    }
    let Ok(bytes) = seal(&parts) else { return };
    if let Ok(opened) = open(&bytes) {
        assert!(seal(&opened).is_ok_and(|again| again == bytes), "what was opened is sealed as it was");
    }
    let mut changed = edits::apply(&bytes, input);
    // Whoever makes up a state makes up the checksum, too.
    if let Some((head, body)) = changed.split_at_mut_checked(BODY) {
        head[BODY - SHA256_OUTPUT_LEN..].copy_from_slice(digest(&SHA256, body).as_ref());
    }
    if let Ok(opened) = open(&changed) {
        assert!(seal(&opened).is_ok_and(|again| *again == changed), "what was opened is sealed as it was");
    }
}

fn message(bytes: &[u8]) {
    let Ok((message, _)) = postcard::take_from_bytes::<Message>(bytes) else { return };
    if let Message::Hello(hello) = &message {
        let own = Hello::own(2);
        assert_eq!(
            own.fits(hello).is_ok(),
            hello.workers == 2 && hello.state_version == own.state_version && hello.architecture == own.architecture
        );
    }
    let again = postcard::to_allocvec(&message).expect("it is written again");
    assert_eq!(postcard::from_bytes::<Message>(&again).expect("and read"), message);
}

fn made_up(input: &mut Input<'_>) -> Message {
    let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.bytes()).repeat(3);
    match input.u8() % 10 {
        0 => Message::Hello(Hello { release: text(input), ..Hello::own(2) }),
        1 => Message::Hello(Hello { workers: input.u16(), state_version: input.u16(), ..Hello::own(2) }),
        2 => Message::Prepared,
        3 => Message::State { length: input.u64(), descriptors: input.u32() },
        4 => Message::Descriptors,
        5 => Message::Ready,
        6 => Message::Refused(text(input)),
        7 | 8 => Message::Commit { frozen_micros: input.u64() },
        _ => Message::Serving,
    }
}

/// Both ends, of which each hears whatever somebody makes up.
fn upgrade(input: &mut Input<'_>) {
    let mut now = Instant::now();
    let mut old = Predecessor::new(Hello::own(2), Limits::default());
    let mut new = Successor::new(Hello::own(2));
    let (mut frozen, mut committed, mut retired) = (false, false, false);
    let mut heard_commit = false;
    assert!(old.begin(now).is_ok());
    while !input.is_empty() {
        let text = "why".to_owned();
        let happened = match input.u8() % 16 {
            0 => Happened::NotStarted(text),
            1 => Happened::Garbage(text),
            2 => Happened::Gone,
            3 => Happened::Quiet,
            4 => Happened::NotQuiet(text),
            5 => Happened::Frozen,
            6 => Happened::NotFrozen(text),
            7 => Happened::StateWritten,
            8 => Happened::StateNotWritten(text),
            9 => Happened::CommitWritten,
            10 => Happened::CommitNotWritten(text),
            11 => {
                now += Duration::from_millis(u64::from(input.u16()));
                old.handle_timeout(now);
                assert!(old.poll_timeout().is_none_or(|at| at > now), "a time limit that has passed is over");
                continue;
            }
            12 => {
                let _ = old.begin(now);
                continue;
            }
            13 => {
                let message = made_up(input);
                heard_commit |= matches!(message, Message::Commit { .. });
                new.handle(SuccessorInput::Message(message));
                new.handle(match input.u8() % 6 {
                    0 => SuccessorInput::Prepared,
                    1 => SuccessorInput::Imported,
                    2 => SuccessorInput::NotImported("why".to_owned()),
                    3 => SuccessorInput::Gone,
                    _ => SuccessorInput::Serving,
                });
                while let Some(action) = new.poll_action() {
                    assert!(heard_commit || action != SuccessorAction::Serve, "it serves without the commit");
                }
                continue;
            }
            _ => Happened::Message(made_up(input)),
        };
        committed |= happened == Happened::CommitWritten && old.step() == Some(Step::Commit);
        old.handle(now, happened);
        while let Some(action) = old.poll_action() {
            match action {
                Action::Freeze => frozen = true,
                Action::Resume => {
                    assert!(frozen && !committed && !retired, "it goes on with what another process has");
                    frozen = false;
                }
                Action::Retire => {
                    assert!(committed && frozen, "it lets go of what nobody else has");
                    retired = true;
                }
                Action::Report(Outcome::GoesOn { failure, .. }) => {
                    assert!(!committed && !frozen && failure.to_string().len() <= 4 * MAX_REASON);
                }
                Action::Report(Outcome::HandedOver { release, .. }) => {
                    assert!(retired && release.len() <= MAX_REASON);
                    return;
                }
                Action::Report(Outcome::Lost(_)) => {
                    assert!(retired);
                    return;
                }
                _ => {}
            }
        }
    }
}
