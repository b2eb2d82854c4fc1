//! `recoverylog fork`: goes on in a new log where another one was at a point of its history.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::random_author;
use recoverylog::player::PlayOptions;
use recoverylog::replica::{Past, Replica};
use recoverylog::vfs::{FileSystem, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, Offset};
use serde::Serialize;

use crate::args::{Args, Fork};
use crate::output::{Output, Stop};
use crate::place::{Hints, Place};
use crate::restore::{PointObject, is_kept, resolved, warn_of};

/// The longest wait for journals and hints.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &Args, command: &Fork, output: &mut Output) -> Result<(), Stop> {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    let directory = resolved(&command.dir);
    if is_kept(&*fs, &directory)? {
        let what = format!("the directory {} is not empty", command.dir.display());
        return Err(Error::new(ErrorKind::Invalid, what).advise("name a new directory").into());
    }
    let (log, sets) = Hints::candidates(args, command.snapshots.as_ref())?;
    let journals = Place::open_to_append(args)?;
    if log == command.to {
        let what = "a fork goes to another log than the one that it comes from";
        return Err(Error::new(ErrorKind::Invalid, what).in_log(&log).advise("name a new log").into());
    }
    let past = Past::new(&*journals, log.clone(), sets, Arc::clone(&fs));
    let options = PlayOptions::default();
    // Nothing is made before it is known that the point can be reached.
    drop(past.plan(&command.at, &directory, &options)?);
    let head = journals.open(&command.to).map_err(Error::from)?.head(Deadline::after(PATIENCE));
    let head = head.map_err(Error::from)?.offset;
    if head > Offset::ZERO {
        let what = "the log that is forked to is not empty";
        return Err(Error::new(ErrorKind::Invalid, what)
            .in_log(&command.to)
            .expected("a head of 0", head)
            .advise("name a new log; nothing was changed")
            .into());
    }
    let hints = command.to_hints.store_to_add(args)?;
    let restored = past.restore(&command.at, &directory, &options)?;
    warn_of(&restored.passed_over, output);
    for warning in &restored.played.warnings {
        output.warn(format_args!("{warning}"));
    }
    let point = PointObject::new(&restored.point, restored.set.clone());
    let shard = Replica::new(Arc::clone(&journals), command.to.clone(), hints, fs);
    let primary = shard.fork(restored.played, random_author()?, Deadline::after(PATIENCE))?;
    primary.close(Deadline::after(PATIENCE))?;
    let forked = Forked {
        log: log.to_string(),
        to: command.to.to_string(),
        hints: command.to_hints.to_string(),
        directory: command.dir.display().to_string(),
        point,
    };
    if output.is_json() {
        return output.object(&forked);
    }
    output.line(format_args!(
        "log {} goes on where {} was, into {}",
        forked.to, forked.log, forked.directory
    ))?;
    forked.point.print(output)?;
    output.line(format_args!(
        "its hints are in {}; they name bytes of {}, which must not be pruned",
        forked.hints, forked.log
    ))
}

#[derive(Debug, Serialize)]
struct Forked {
    log: String,
    to: String,
    hints: String,
    directory: String,
    point: PointObject,
}
