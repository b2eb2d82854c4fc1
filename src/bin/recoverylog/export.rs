//! `recoverylog hints --export`: hints and logs as plain files, for a trial on another player.

use std::path::Path;

use recoverylog::journal::{Journal, ReadRange, ReadStep};
use recoverylog::vfs::{File, FileSystem, OpenMode, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, Fsm, FsmHints, JournalName, Offset, Result};
use serde::Serialize;

use crate::output::Output;
use crate::place::Place;
use crate::progress::Progress;

/// What is in the folder, and what a player is to come to: `case.json`.
#[derive(Debug, Serialize)]
struct Case {
    name: String,
    description: &'static str,
    /// The log that is recorded now comes first.
    logs: Vec<LogFile>,
    expect: Expect,
}

#[derive(Debug, Serialize)]
struct LogFile {
    name: String,
    file: String,
    length: u64,
    /// Ranges that are not stored; they are holes in the file.
    missing: Vec<[u64; 2]>,
}

#[derive(Debug, Serialize)]
struct Expect {
    error: &'static str,
    error_kind: &'static str,
    next_seq: i64,
    next_checksum: u32,
    last_log: String,
}

/// Writes hints, each log from its first byte on, and what a play of them comes to into `folder`, which is missing.
pub(crate) fn write(
    place: &Place,
    hints: &FsmHints,
    fsm: &Fsm,
    folder: &Path,
    step: std::time::Duration,
    output: &Output,
) -> Result<()> {
    let fs = OsFs::new();
    let failed = |error| Error::io(format!("writing {} failed", folder.display()), error);
    if fs.metadata(folder).is_ok() {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is there already", folder.display()))
            .advise("name a folder that is missing"));
    }
    fs.create_dir(folder).map_err(failed)?;
    let put = |name: &str, bytes: &[u8]| {
        let file = fs.open(&folder.join(name), OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    };
    let mut logs = Vec::new();
    for (index, log) in logs_of(hints, fsm).into_iter().enumerate() {
        let file_name = if index == 0 { "log.bin".to_owned() } else { format!("log-{index}.bin") };
        let file = fs.open(&folder.join(&file_name), OpenMode::CreateNew).map_err(failed)?;
        let journal = place.plain.open(&log)?;
        let length = journal.head(Deadline::after(step))?.offset;
        let progress = Progress::begin(output, "exporting", length.get());
        let missing = copy(&*journal, &*file, length, step, &progress)?;
        progress.end();
        logs.push(LogFile { name: log.to_string(), file: file_name, length: length.get(), missing });
    }
    let case = Case {
        name: folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        description: "hints and logs, exported by recoverylog",
        logs,
        expect: Expect {
            error: "",
            error_kind: "",
            next_seq: fsm.next_seq_no().get(),
            next_checksum: fsm.next_checksum().get(),
            last_log: fsm.last_log().to_string(),
        },
    };
    let case = serde_json::to_vec_pretty(&case).map_err(|error| failed(error.into()))?;
    put("hints.json", &hints.encode_json()).map_err(failed)?;
    put("hints.pb", &hints.encode_proto()).map_err(failed)?;
    put("case.json", &case).map_err(failed)?;
    fs.sync_dir(folder).map_err(failed)
}

/// Returns the logs that hints name, the one that is recorded now first.
fn logs_of(hints: &FsmHints, fsm: &Fsm) -> Vec<JournalName> {
    let main = hints.log.clone().unwrap_or_else(|| fsm.last_log().clone());
    let segments = hints.files.iter().flat_map(|file| &file.segments);
    let mut others: Vec<_> = segments.filter_map(|segment| segment.log.clone()).collect();
    others.sort();
    others.dedup();
    others.retain(|log| *log != main);
    others.insert(0, main);
    others
}

/// Copies what is stored of a log before `length`; returns the ranges that are not.
fn copy(
    journal: &dyn Journal,
    file: &dyn File,
    length: Offset,
    step: std::time::Duration,
    progress: &Progress,
) -> Result<Vec<[u64; 2]>> {
    let failed = |error| Error::io("copying a log failed", error).in_log(journal.name());
    file.set_len(length.get()).map_err(failed)?;
    let mut missing = Vec::new();
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, length))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.next(Deadline::after(step))? {
            ReadStep::Chunk(chunk) => {
                let mut done = 0;
                while done < chunk.len() {
                    let bytes = (chunk.len() - done).min(buffer.len() as u64);
                    let piece = buffer.get_mut(..bytes as usize).unwrap_or_default();
                    chunk.read_exact_at(piece, done).map_err(failed)?;
                    file.write_all_at(piece, chunk.offset().get() + done).map_err(failed)?;
                    done += bytes;
                }
                progress.add(done);
            }
            ReadStep::Jump { from, to } => missing.push([from.get(), to.get()]),
            ReadStep::End => break,
            ReadStep::AtHead { .. } | ReadStep::Interrupted => {
                return Err(Error::new(ErrorKind::Unavailable, "bytes below the head did not come in time")
                    .in_log(journal.name())
                    .at(reader.offset()));
            }
        }
    }
    file.sync_all().map_err(failed)?;
    Ok(missing)
}
