//! Processes of this example, and time.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::roles::Report;

/// The longest silence of a process that works.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A process that was started, and its reports. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    name: &'static str,
    child: Child,
    orders: Option<ChildStdin>,
    reports: Receiver<Report>,
}

impl Worker {
    /// Starts this executable once more, in the role called `name`.
    pub(crate) fn start(name: &'static str, place: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--role").arg(name).arg("--dir").arg(place);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, lines) = (child.stdin.take(), child.stdout.take());
        let (sender, reports) = mpsc::channel();
        let listen = move || {
            let lines = lines.map(BufReader::new).into_iter().flat_map(BufReader::lines);
            // The last line of a killed process may be cut: it has acknowledged nothing then.
            for report in lines.map_while(io::Result::ok).filter_map(|line| serde_json::from_str(&line).ok())
            {
                if sender.send(report).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(listen)?;
        Ok(Self { name, child, orders, reports })
    }

    /// Waits for the next report; `None` once there will be no more.
    pub(crate) fn next(&self) -> io::Result<Option<Report>> {
        match self.reports.recv_timeout(SILENCE_MAX) {
            Ok(report) => Ok(Some(report)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(io::Error::other(format!("the {} has said nothing for {SILENCE_MAX:?}", self.name)))
            }
        }
    }

    /// Returns the next report, if it is there already.
    pub(crate) fn poll(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Waits for a report that `wanted` takes, and passes others over.
    pub(crate) fn expect<T>(&self, mut wanted: impl FnMut(&Report) -> Option<T>) -> io::Result<T> {
        loop {
            match self.next()? {
                Some(Report::Failed { kind, what }) => {
                    return Err(io::Error::other(format!("the {} failed: {kind}: {what}", self.name)));
                }
                Some(report) => {
                    if let Some(wanted) = wanted(&report) {
                        return Ok(wanted);
                    }
                }
                None => return Err(io::Error::other(format!("the {} has ended early", self.name))),
            }
        }
    }

    /// Says that so many files are acknowledged, and that it is to take over.
    pub(crate) fn order(&mut self, acknowledged: usize) -> io::Result<()> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        writeln!(orders, "{acknowledged}")?;
        orders.flush()
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end; it has reported all that it will.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        while self.next()?.is_some() {}
        self.child.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended is neither killed nor waited for again.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Measures a step.
#[expect(clippy::disallowed_methods, reason = "an example that measures")]
pub(crate) fn timed<T, E>(step: impl FnOnce() -> Result<T, E>) -> Result<(Duration, T), E> {
    let begin = Instant::now();
    step().map(|made| (begin.elapsed(), made))
}

/// Waits between writes of a primary that has nothing left to load.
#[expect(clippy::disallowed_methods, reason = "no event ends this wait")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
