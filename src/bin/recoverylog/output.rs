//! How results and errors reach the operator: text for people, JSON for programs.

use std::error::Error as _;
use std::fmt;
use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;

use recoverylog::{Error, ErrorKind, LogPath, Offset, SeqNo};
use serde::Serialize;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed.
    Error(Error),
    /// Nobody reads its output any more.
    ReaderGone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Error(Error::io("writing to standard output failed", error)),
        }
    }
}

/// Standard output, in the form that was asked for.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::with_capacity(1 << 16, io::stdout()) }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line for people.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> Result<(), Stop> {
        self.out.write_fmt(line)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Prints an object on a line of its own.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Stop> {
        serde_json::to_writer(&mut self.out, object).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.out.flush()?)
    }

    /// Tells people something that is no result. Programs find it in the result.
    pub(crate) fn warn(&self, warning: fmt::Arguments<'_>) {
        if !self.json {
            to_stderr(format_args!("recoverylog: warning: {warning}"));
        }
    }

    /// Reports an error, if there is one, and returns what the process ends with.
    pub(crate) fn exit_code(mut self, done: Result<(), Stop>) -> ExitCode {
        let error = match done {
            Ok(()) | Err(Stop::ReaderGone) => return ExitCode::SUCCESS,
            Err(Stop::Error(error)) => error,
        };
        // What was found before the error is a result too. Where it cannot be printed, there is an error already.
        drop(self.flush());
        if self.json {
            report_json(&error);
        } else {
            to_stderr(format_args!("recoverylog: {error}"));
            for cause in causes(&error) {
                to_stderr(format_args!("  because: {cause}"));
            }
        }
        ExitCode::from(error.kind().exit_code())
    }
}

/// Reports that the command line cannot be understood, or prints the help that it asks for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = Error::new(ErrorKind::Invalid, what).advise("run `recoverylog --help`");
        report_json(&error);
        return ExitCode::from(error.kind().exit_code());
    }
    // Where help cannot be printed there is nobody to tell.
    drop(error.print());
    if error.use_stderr() { ExitCode::from(ErrorKind::Invalid.exit_code()) } else { ExitCode::SUCCESS }
}

/// The JSON form of an error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorObject {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    pub(crate) log: Option<String>,
    pub(crate) offset: Option<u64>,
    pub(crate) seq_no: Option<i64>,
    pub(crate) expected: Option<String>,
    pub(crate) actual: Option<String>,
    pub(crate) advice: String,
    pub(crate) causes: Vec<String>,
}

impl From<&Error> for ErrorObject {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind().name(),
            what: error.what().to_owned(),
            log: error.log().map(ToString::to_string),
            offset: error.offset().map(Offset::get),
            seq_no: error.seq_no().map(SeqNo::get),
            expected: error.expected_value().map(str::to_owned),
            actual: error.actual_value().map(str::to_owned),
            advice: error.advice().to_owned(),
            causes: causes(error),
        }
    }
}

/// The JSON form of a path: text, and the bytes where they are not UTF-8.
#[derive(Debug, Serialize)]
pub(crate) struct PathObject {
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_hex: Option<String>,
}

impl From<&LogPath> for PathObject {
    fn from(path: &LogPath) -> Self {
        let bytes = path.as_bytes();
        Self {
            path: String::from_utf8_lossy(bytes).into_owned(),
            path_hex: std::str::from_utf8(bytes).is_err().then(|| hex(bytes)),
        }
    }
}

/// Shows bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Shows a number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> impl fmt::Display {
    indicatif::BinaryBytes(count)
}

/// Shows how many there are of something whose name takes an `s`.
pub(crate) fn counted(count: impl TryInto<u64>, one: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Shows a time in nanoseconds since the Unix epoch as UTC, to the second.
pub(crate) fn utc(unix_nanos: i64) -> String {
    let seconds = unix_nanos.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

fn report_json(error: &Error) {
    match serde_json::to_string(&ErrorObject::from(error)) {
        Ok(object) => to_stderr(format_args!("{object}")),
        Err(_) => to_stderr(format_args!("recoverylog: {error}")),
    }
}

fn to_stderr(line: fmt::Arguments<'_>) {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_the_calendar_has_them() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_276_800, "2026-11-21 16:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), shown);
        }
    }

    #[test]
    fn one_of_something_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count: u64| counted(count, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn a_path_that_is_not_text_keeps_its_bytes() {
        let object = PathObject::from(&LogPath::from_bytes(b"/a\xff"));
        assert_eq!((object.path.as_str(), object.path_hex.as_deref()), ("/a\u{fffd}", Some("2f61ff")));
        assert_eq!(PathObject::from(&LogPath::from_bytes(b"/a")).path_hex, None);
    }
}
