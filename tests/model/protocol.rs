//! The rules: what the journal, a hand-off and a recorder do, and what may happen to them.
//!
//! | here | mirrors |
//! |---|---|
//! | `Journal::submit` in [`Model::commit`] | the docs of `src/journal.rs`; `MemoryJournal::commit` |
//! | [`Model::inject`], [`Model::look`], [`Model::read_back`] | `Handoff::run`, `append` with `found_at`, `read_back` in `src/player/handoff.rs` |
//! | [`Model::send`] | `State::next_append`, `append_of` in `src/recorder/state.rs` |
//! | [`Model::answered`] | `State::settle`, `fate` there |
//! | [`Model::attempt`] | `attempt`, `judge` in `src/recorder/resolve.rs` |
//! | [`committed`] | `State::commit` |

use crate::book::{Book, OpId};
use crate::promises::Promise;

/// A model: how much there is to do, what may go wrong, and which rule is taken away.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) writers: usize,
    /// Operations that each writer records as a primary, one or two to a batch.
    pub(crate) ops: usize,
    /// Operations that the log has room for.
    pub(crate) log_max: usize,
    /// `MISSES_MAX` of the hand-off.
    pub(crate) misses_max: u8,
    pub(crate) registers: Registers,
    /// An append may name offset 0.
    pub(crate) at_zero: bool,
    pub(crate) planted: Option<Planted>,
    pub(crate) book: Book,
}

impl Default for Model {
    fn default() -> Self {
        let registers = Registers::Vanish;
        let (planted, book) = (None, Book::default());
        Self { writers: 2, ops: 1, log_max: 4, misses_max: 1, registers, at_zero: true, planted, book }
    }
}

/// What may happen to the author register beside appends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Registers {
    Kept,
    /// It is lost, at any time.
    Vanish,
    /// It is lost, or set to any author that ever asked for it.
    SetBack,
}

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Planted {
    /// The journal does not check registers.
    RegistersUnchecked,
    /// The journal does not check `at`, and answers as if it had.
    AtUnchecked,
    /// Readers take operations by their sequence numbers alone.
    ChainUnchecked,
    /// Foreign bytes are judged by the state machine that runs ahead of the committed prefix.
    JudgedAhead,
    /// A batch that is resent takes along what was recorded since.
    LongerBatch,
    /// A batch of unknown fate is resent at the head, without a look at what lies before it.
    ResentUnread,
    /// A hand-off is done when its no-op is in the log, accepted or not.
    NoReadBack,
}

/// Everything that there is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) log: Vec<OpId>,
    /// Whom the author register names.
    pub(crate) register: Option<usize>,
    /// Appends that were sent and may still commit, sorted.
    pub(crate) network: Vec<Request>,
    pub(crate) writers: Vec<Writer>,
    /// Operations that somebody was told are durable, sorted.
    pub(crate) acknowledged: Vec<OpId>,
}

/// An append.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Request {
    pub(crate) writer: usize,
    pub(crate) at: Option<usize>,
    pub(crate) content: Vec<OpId>,
    /// It demands that the register is not another's.
    pub(crate) check: bool,
    /// It sets the register.
    pub(crate) union: bool,
}

/// Where a writer is in its life. Each has an author of its own.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Writer {
    /// It stands at the head, and wants to take over.
    Standby {
        misses: u8,
    },
    /// Its no-op is on its way.
    Injecting {
        request: Request,
        misses: u8,
    },
    /// Its no-op is on its way without a place, for the sake of the register.
    Stopping {
        request: Request,
    },
    Primary(Primary),
    /// It was told that another took over: by the register, or by what it read.
    Fenced {
        by_register: bool,
        own: Vec<OpId>,
    },
    /// It ended for another reason.
    Broken,
    Crashed,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Primary {
    /// The end of what it takes for committed.
    pub(crate) end: usize,
    /// The history up to there.
    pub(crate) history: Vec<OpId>,
    /// The batch in flight, and where it is to begin.
    pub(crate) sent: Option<(usize, Vec<OpId>)>,
    /// Operations recorded.
    recorded: usize,
    /// The register is known to be set: `Registers::Hold`.
    hold: bool,
}

/// What the journal says of an append.
enum Answer {
    Committed { begin: usize },
    WrongOffset,
    RegisterMismatch,
}

/// What happens, and the state that it leads to or the promise that it breaks.
pub(crate) type Step = (What, Result<State, Promise>);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Does(usize, &'static str),
    /// A request of the network, by its place there.
    Arrives(usize, &'static str),
    RegisterBecomes(Option<usize>),
}

impl Model {
    /// Returns the state in which the first writer has begun an empty log and the others stand by.
    pub(crate) fn initial(&mut self) -> State {
        self.book.chain_unchecked = self.planted == Some(Planted::ChainUnchecked);
        let first = Primary { end: 0, history: Vec::new(), sent: None, recorded: 0, hold: false };
        let mut writers = vec![Writer::Standby { misses: 0 }; self.writers];
        writers[0] = Writer::Primary(first);
        State { log: Vec::new(), register: None, network: Vec::new(), writers, acknowledged: Vec::new() }
    }

    /// Returns everything that can happen next.
    pub(crate) fn steps(&mut self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for writer in 0..self.writers {
            self.steps_of_writer(state, writer, &mut steps);
        }
        for place in 0..state.network.len() {
            self.deliveries(state, place, &mut steps);
        }
        let asked = |writer: &usize| state.network.iter().any(|r| r.union && r.writer == *writer);
        let mut registers = Vec::new();
        if self.registers != Registers::Kept {
            registers.push(None);
        }
        if self.registers == Registers::SetBack {
            registers.extend((0..self.writers).filter(asked).map(Some));
        }
        for register in registers.into_iter().filter(|register| *register != state.register) {
            steps.push((What::RegisterBecomes(register), Ok(State { register, ..state.clone() })));
        }
        steps
    }

    fn steps_of_writer(&mut self, state: &State, index: usize, steps: &mut Vec<Step>) {
        let mut push = |what, next: State| steps.push((What::Does(index, what), Ok(next)));
        match &state.writers[index] {
            Writer::Standby { misses } => {
                if state.log.len() < self.log_max {
                    push("injects its no-op", self.inject(state, index, *misses));
                }
            }
            Writer::Injecting { request, misses } => {
                if let Some(next) = self.look(state, index, request, *misses) {
                    push("looks for its no-op", next);
                }
                if request.at.is_some_and(|at| at < state.log.len()) {
                    push("is told that its offset is taken", miss(state, index, *misses));
                }
            }
            Writer::Stopping { .. } => push("waits for its no-op no longer", miss_not(state, index)),
            Writer::Primary(primary) if primary.sent.is_some() => {
                push("finds out what became of its append", self.attempt(state, index, primary));
            }
            Writer::Primary(primary) => {
                let sends = ["sends an operation", "sends two operations"];
                for (count, what) in (1..=self.ops - primary.recorded).zip(sends) {
                    push(what, self.send(state, index, primary, count));
                }
            }
            Writer::Fenced { .. } | Writer::Broken | Writer::Crashed => return,
        }
        push("crashes", with_writer(state, index, Writer::Crashed));
    }

    /// `Handoff::run`: reads to the head, and appends what continues it there. After too many misses the no-op goes out
    /// without a place, so that its union stops the old writer.
    fn inject(&mut self, state: &State, index: usize, misses: u8) -> State {
        let history = self.book.read(&state.log);
        let content = vec![self.book.continue_with(&history, index, None)];
        let at = (misses < self.misses_max).then_some(state.log.len());
        let request = Request { writer: index, at, content, check: false, union: true };
        let writer = if at.is_some() {
            Writer::Injecting { request: request.clone(), misses }
        } else {
            Writer::Stopping { request: request.clone() }
        };
        self.sent(with_writer(state, index, writer), request)
    }

    /// `Handoff::append` after an answer that did not come: `found_at` reads what lies at the place.
    fn look(&mut self, state: &State, index: usize, request: &Request, misses: u8) -> Option<State> {
        let at = request.at?;
        match state.log.get(at) {
            // Sent again, which the network does by itself.
            None => None,
            Some(found) if *found == request.content[0] => Some(self.read_back(state, index, at + 1)),
            Some(_) => Some(miss(state, index, misses)),
        }
    }

    /// `Handoff::read_back`: the hand-off is done where its no-op is the last accepted operation.
    fn read_back(&mut self, state: &State, index: usize, end: usize) -> State {
        let history = self.book.read(&state.log[..end]);
        if history.last_writer() != Some(index) && self.planted != Some(Planted::NoReadBack) {
            let own = history.accepted.clone();
            return with_writer(state, index, Writer::Fenced { by_register: false, own });
        }
        let history = history.accepted.clone();
        let primary = Primary { end, history, sent: None, recorded: 0, hold: false };
        let mut next = with_writer(state, index, Writer::Primary(primary));
        next.acknowledge(&state.log[end - 1..end]);
        next
    }

    /// `State::next_append`: the batch continues the committed history, at its end.
    fn send(&mut self, state: &State, index: usize, primary: &Primary, count: usize) -> State {
        let content = self.record(index, &primary.history, primary.recorded, count);
        let mut primary = primary.clone();
        primary.sent = Some((primary.end, content));
        primary.recorded += count;
        self.resend(state, index, primary)
    }

    /// Records operations behind `history`, which is all there is to the chain.
    fn record(&mut self, index: usize, history: &[OpId], recorded: usize, count: usize) -> Vec<OpId> {
        let mut ahead = history.to_vec();
        for file in recorded..recorded + count {
            let before = self.book.read(&ahead);
            ahead.push(self.book.continue_with(&before, index, Some(file)));
        }
        ahead.split_off(history.len())
    }

    /// `State::append_of`.
    fn resend(&self, state: &State, index: usize, primary: Primary) -> State {
        let Some((at, content)) = primary.sent.clone() else { return state.clone() };
        let request = Request { writer: index, at: Some(at), content, check: true, union: !primary.hold };
        self.sent(with_writer(state, index, Writer::Primary(primary)), request)
    }

    /// `attempt` of `resolve`: reads what follows the committed prefix, judges it, and resends where nothing there
    /// speaks against it.
    fn attempt(&mut self, state: &State, index: usize, primary: &Primary) -> State {
        let mut primary = primary.clone();
        let (at, mut content) = primary.sent.clone().unwrap();
        if self.planted == Some(Planted::LongerBatch) && primary.recorded < self.ops {
            let ahead = [&primary.history[..], &content[..]].concat();
            content.extend(self.record(index, &ahead, primary.recorded, 1));
            primary.recorded += 1;
        }
        let head = state.log.len();
        let expected = if self.planted == Some(Planted::JudgedAhead) {
            self.book.read(&[&primary.history[..], &content[..]].concat()).next()
        } else {
            self.book.place(content[0])
        };
        primary.sent = Some((head, content.clone()));
        if self.planted != Some(Planted::ResentUnread) {
            for begin in at..head {
                let op = state.log[begin];
                if self.book.place(op) != expected {
                    continue;
                }
                if self.book.writer(op) != index {
                    let fenced = Writer::Fenced { by_register: false, own: primary.history };
                    return with_writer(state, index, fenced);
                }
                if !state.log[begin..].starts_with(&content) {
                    return with_writer(state, index, Writer::Broken);
                }
                return committed(state, index, primary, begin);
            }
        }
        self.resend(state, index, primary)
    }

    /// A request arrives, with or without its answer.
    fn deliveries(&mut self, state: &State, place: usize, steps: &mut Vec<Step>) {
        let request = &state.network[place];
        let waiting = match &state.writers[request.writer] {
            Writer::Injecting { request: own, .. } | Writer::Stopping { request: own } => own == request,
            Writer::Primary(Primary { sent: Some((at, content)), .. }) => {
                Some(*at) == request.at && *content == request.content
            }
            _ => false,
        };
        let Some((answer, next)) = self.commit(state, request) else { return };
        let overtaken = overtakes(state, request, &answer);
        if let Answer::Committed { .. } = answer {
            let next = if overtaken { Err(Promise::Stopped) } else { Ok(next.clone()) };
            steps.push((What::Arrives(place, "arrives, its answer does not"), next));
        }
        if waiting && !overtaken {
            steps.push((
                What::Arrives(place, "arrives and is answered"),
                Ok(self.answered(&next, request, &answer)),
            ));
        }
    }

    /// `Journal::submit`: `None` where there is no room, or nothing would come of it.
    fn commit(&self, state: &State, request: &Request) -> Option<(Answer, State)> {
        let registers_checked = self.planted != Some(Planted::RegistersUnchecked);
        let named_by_other = state.register.is_some_and(|named| named != request.writer);
        if registers_checked && request.check && named_by_other {
            return Some((Answer::RegisterMismatch, state.clone()));
        }
        let head = state.log.len();
        let at = request.at.filter(|at| self.at_zero || *at > 0);
        let at_checked = self.planted != Some(Planted::AtUnchecked);
        if at_checked && at.is_some_and(|at| at != head) {
            return Some((Answer::WrongOffset, state.clone()));
        }
        if head + request.content.len() > self.log_max {
            return None;
        }
        let mut next = state.clone();
        next.log.extend(&request.content);
        if request.union {
            next.register = Some(request.writer);
        }
        self.forget(&mut next);
        let begin = if at_checked { head } else { at.unwrap_or(head) };
        Some((Answer::Committed { begin }, next))
    }

    /// What the writer of `request` makes of its answer: `State::settle`, or `Handoff::append`.
    fn answered(&mut self, state: &State, request: &Request, answer: &Answer) -> State {
        let index = request.writer;
        let end_of = |begin: usize| begin + request.content.len();
        match (&state.writers[index], answer) {
            (Writer::Injecting { .. }, Answer::Committed { begin }) if request.at == Some(*begin) => {
                self.read_back(state, index, end_of(*begin))
            }
            (Writer::Injecting { misses, .. }, _) => miss(state, index, *misses),
            (Writer::Stopping { .. }, Answer::Committed { begin })
                if self.planted == Some(Planted::NoReadBack) =>
            {
                self.read_back(state, index, end_of(*begin))
            }
            (Writer::Stopping { .. }, _) => miss_not(state, index),
            (Writer::Primary(primary), Answer::Committed { begin }) => {
                let primary = primary.clone();
                if request.at == Some(*begin) {
                    return committed(state, index, primary, *begin);
                }
                self.attempt(state, index, &primary)
            }
            (Writer::Primary(primary), Answer::WrongOffset) => self.attempt(state, index, &primary.clone()),
            (Writer::Primary(primary), Answer::RegisterMismatch) => {
                let fenced = Writer::Fenced { by_register: true, own: primary.history.clone() };
                with_writer(state, index, fenced)
            }
            _ => state.clone(),
        }
    }

    /// Puts a request into the network.
    fn sent(&self, mut state: State, request: Request) -> State {
        if let Err(place) = state.network.binary_search(&request) {
            state.network.insert(place, request);
        }
        self.forget(&mut state);
        state
    }

    /// Forgets requests that can never commit again: their place is taken.
    fn forget(&self, state: &mut State) {
        if self.planted == Some(Planted::AtUnchecked) {
            return;
        }
        let head = state.log.len();
        let named = |at: usize| self.at_zero || at > 0;
        state.network.retain(|request| request.at.is_none_or(|at| !named(at) || at >= head));
    }
}

impl Model {
    /// Writes down what happens in `state`, for people.
    pub(crate) fn show(&self, what: What, state: &State) -> String {
        match what {
            What::Does(writer, what) => format!("{writer} {what}"),
            What::RegisterBecomes(None) => "the register is lost".to_owned(),
            What::RegisterBecomes(Some(writer)) => format!("the register is set back to {writer}"),
            What::Arrives(place, what) => {
                let request = &state.network[place];
                let content: Vec<_> = request.content.iter().map(|op| self.book.name(*op)).collect();
                let at = request.at.map_or("anywhere".to_owned(), |at| format!("at {at}"));
                format!("{} {at} {what}", content.join(" "))
            }
        }
    }
}

impl State {
    fn acknowledge(&mut self, ops: &[OpId]) {
        self.acknowledged.extend(ops);
        self.acknowledged.sort_unstable();
        self.acknowledged.dedup();
    }
}

fn with_writer(state: &State, index: usize, writer: Writer) -> State {
    let mut next = state.clone();
    next.writers[index] = writer;
    next
}

fn miss(state: &State, index: usize, misses: u8) -> State {
    with_writer(state, index, Writer::Standby { misses: misses + 1 })
}

fn miss_not(state: &State, index: usize) -> State {
    with_writer(state, index, Writer::Standby { misses: 0 })
}

/// `State::commit`.
fn committed(state: &State, index: usize, mut primary: Primary, begin: usize) -> State {
    let (_, content) = primary.sent.take().unwrap();
    primary.end = begin + content.len();
    primary.history.extend(&content);
    primary.hold = state.register.is_some();
    let mut next = with_writer(state, index, Writer::Primary(primary));
    next.acknowledge(&content);
    next
}

/// Tells whether a checked append commits beside a standby that holds the register.
fn overtakes(state: &State, request: &Request, answer: &Answer) -> bool {
    let stands_by =
        |writer: usize| matches!(state.writers[writer], Writer::Standby { .. } | Writer::Injecting { .. });
    let Some(named) = state.register else { return false };
    let commits = matches!(answer, Answer::Committed { .. });
    commits && request.check && named != request.writer && stands_by(named)
}
