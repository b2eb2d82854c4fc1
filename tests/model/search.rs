//! The search: every state once, breadth first, so that the trace to what is broken is the shortest.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::promises::{Promise, broken, ended, under_way};
use crate::protocol::{Model, State, Writer};

/// What a search found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// Steps from the first state to the last one.
    pub(crate) depth: u32,
    /// States in which a hand-off was acknowledged.
    pub(crate) handed_off: usize,
    /// States in which somebody was told that it is fenced by a register alone.
    pub(crate) false_alarms: usize,
    /// The promise that is broken, and the way there.
    pub(crate) broken: Option<(Promise, Vec<String>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, handed_off, false_alarms, broken } = self;
        write!(f, "{states} states, {steps} steps, depth {depth}, {handed_off} after a hand-off, ")?;
        write!(f, "{false_alarms} with a false alarm of the register")?;
        let Some((promise, trace)) = broken else { return Ok(()) };
        write!(f, "\n{promise:?} is broken:")?;
        trace.iter().enumerate().try_for_each(|(at, step)| write!(f, "\n{:3}. {step}", at + 1))
    }
}

/// A state that was found: how one comes there, and what is to be said of it.
struct Found {
    parent: u32,
    /// The number of the step among those of the parent.
    step: u16,
    depth: u32,
    under_way: u8,
    ended: u8,
}

/// Searches every state of `model`, until one breaks a promise: this one, or any.
pub(crate) fn search(mut model: Model, wanted: Option<Promise>) -> Report {
    let is_wanted = |promise: &Promise| wanted.is_none_or(|wanted| wanted == *promise);
    let first = model.initial();
    let mut seen = HashMap::from([(Key::of(&first), 0_u32)]);
    let mut found = vec![Found { parent: 0, step: 0, depth: 0, under_way: 0, ended: 0 }];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut report = Report { states: 0, steps: 0, depth: 0, handed_off: 0, false_alarms: 0, broken: None };
    let mut queue = VecDeque::from([(0_u32, first)]);
    'search: while let Some((index, state)) = queue.pop_front() {
        let entry = &mut found[index as usize];
        (entry.under_way, entry.ended) = (under_way(&model, &state), ended(&state));
        let depth = entry.depth;
        report.depth = depth;
        if let Some(promise) = broken(&mut model, &state).into_iter().find(is_wanted) {
            report.broken = Some((promise, trace(&mut model, &found, index, None)));
            break;
        }
        count(&mut model, &state, &mut report);
        for (step, (_, next)) in model.steps(&state).into_iter().enumerate() {
            let next = match next {
                Ok(next) => next,
                Err(promise) if is_wanted(&promise) => {
                    report.broken = Some((promise, trace(&mut model, &found, index, Some(step))));
                    break 'search;
                }
                Err(_) => continue,
            };
            let number = *seen.entry(Key::of(&next)).or_insert_with(|| {
                let number = u32::try_from(found.len()).unwrap();
                let step = u16::try_from(step).unwrap();
                found.push(Found { parent: index, step, depth: depth + 1, under_way: 0, ended: 0 });
                queue.push_back((number, next));
                number
            });
            edges.push((number, index));
        }
    }
    (report.states, report.steps) = (found.len(), edges.len());
    if report.broken.is_none()
        && let Some(stuck) = stuck(&found, edges)
    {
        report.broken = Some((Promise::CanEnd, trace(&mut model, &found, stuck, None)));
    }
    report
}

fn count(model: &mut Model, state: &State, report: &mut Report) {
    let is_primary = |writer: &Writer| matches!(writer, Writer::Primary(_));
    report.handed_off += usize::from(state.writers[1..].iter().any(is_primary));
    let history = model.book.read(&state.log);
    let alarmed = |(index, writer): (usize, &Writer)| {
        matches!(writer, Writer::Fenced { by_register: true, .. }) && history.last_writer() == Some(index)
    };
    report.false_alarms += usize::from(state.writers.iter().enumerate().any(alarmed));
}

/// Returns a state from which something that is under way cannot come to its end: no way leads to a state where it
/// has. `edges` are pairs of a state and one that leads there.
fn stuck(found: &[Found], mut edges: Vec<(u32, u32)>) -> Option<u32> {
    edges.sort_unstable();
    let into = |state: u32| {
        let begin = edges.partition_point(|edge| edge.0 < state);
        edges[begin..].iter().take_while(move |edge| edge.0 == state).map(|edge| edge.1)
    };
    let mut can_end: Vec<u8> = found.iter().map(|found| found.ended).collect();
    let mut queue: VecDeque<u32> = (0..found.len() as u32).collect();
    let mut queued = vec![true; found.len()];
    while let Some(state) = queue.pop_front() {
        queued[state as usize] = false;
        let bits = can_end[state as usize];
        for before in into(state) {
            let before = before as usize;
            if can_end[before] | bits != can_end[before] {
                can_end[before] |= bits;
                if !std::mem::replace(&mut queued[before], true) {
                    queue.push_back(before as u32);
                }
            }
        }
    }
    (0..found.len()).find(|&at| found[at].under_way & !can_end[at] != 0).map(|at| at as u32)
}

/// Walks from the first state to the one that was found as `index`, and on by one more step.
fn trace(model: &mut Model, found: &[Found], index: u32, last: Option<usize>) -> Vec<String> {
    let mut way: Vec<usize> = last.into_iter().collect();
    let mut at = index;
    while at != 0 {
        way.push(usize::from(found[at as usize].step));
        at = found[at as usize].parent;
    }
    let mut state = model.initial();
    let mut trace = Vec::new();
    for step in way.into_iter().rev() {
        let (what, next) = model.steps(&state).swap_remove(step);
        let what = model.show(what, &state);
        if let Ok(next) = next {
            state = next;
        }
        let register = state.register.map_or("-".to_owned(), |writer| writer.to_string());
        trace.push(format!("{what:60} | register {register}, log{}", model.book.show(&state.log)));
    }
    trace
}

/// A state as bytes: what it feeds into a hasher.
#[derive(Default)]
struct Key(Vec<u8>);

impl Key {
    fn of(state: &State) -> Box<[u8]> {
        let mut key = Self::default();
        state.hash(&mut key);
        key.0.into()
    }
}

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    // Every number of a model is small.
    fn write_usize(&mut self, number: usize) {
        self.0.push(u8::try_from(number).unwrap());
    }

    fn write_isize(&mut self, number: isize) {
        self.0.push(u8::try_from(number).unwrap());
    }

    fn finish(&self) -> u64 {
        0
    }
}
