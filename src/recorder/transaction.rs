//! Operations that belong together: they are recorded under one lock, and committed by one append.
//!
//! *Invariants.* Each method checks what it asks for before it records anything, so that a request which no
//! history allows leaves none of itself behind. Names follow POSIX: what is created, linked or renamed at a path
//! takes the place of what was there.
//!
//! *Does not* check that a path is clean: the recorder and the tracker do, before they take any lock.

use bytes::Bytes;

use super::options::Settings;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, Transition};
use crate::ids::{Fnode, LogPath, SeqNo};
use crate::op::{Mark, OpBody, Payload};

/// The reserved file that anchors the hints of an empty tree; a player hides its folder.
pub(super) const ANCHOR_PATH: &[u8] = b"/.recoverylog/anchor";

/// The most bytes in the name of a mark.
pub(super) const MARK_NAME_BYTES_MAX: usize = 255;

/// Operations that are committed by one append, recorded under the recorder's lock.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    pub(super) state: &'a mut State,
    pub(super) settings: &'a Settings,
}

impl Transaction<'_> {
    /// Returns the history as it stands after everything that was recorded.
    pub(crate) const fn fsm(&self) -> &Fsm {
        &self.state.fsm
    }

    /// Returns the bytes of the batch that this goes into.
    pub(crate) const fn batch_bytes(&self) -> u64 {
        self.state.pending.content.len() as u64
    }

    /// Creates a file at `path`, and unlinks what was there.
    pub(crate) fn create(&mut self, path: &LogPath) -> Result<Fnode> {
        self.refuse_property(path, "create")?;
        self.unlink_if_linked(path)?;
        match self.push(OpBody::Create { path: path.clone() })? {
            Transition::Created(fnode) => Ok(fnode),
            other => Err(self.broken(&format!("a create became {other:?}"))),
        }
    }

    /// Links `fnode` at `path`, and unlinks what was there. Nothing changes where it is linked there already.
    pub(crate) fn link(&mut self, fnode: Fnode, path: &LogPath) -> Result<()> {
        self.refuse_property(path, "link")?;
        self.is_live(fnode)?;
        if self.state.fsm.link(path) == Some(fnode) {
            return Ok(());
        }
        self.unlink_if_linked(path)?;
        self.push(OpBody::Link { fnode, path: path.clone() }).map(drop)
    }

    /// Unlinks `path`; returns the file that was there, and whether this was its last link.
    pub(crate) fn unlink(&mut self, path: &LogPath) -> Result<(Fnode, bool)> {
        self.refuse_property(path, "unlink")?;
        let fnode = self.linked(path)?;
        match self.push(OpBody::Unlink { fnode, path: path.clone() })? {
            Transition::Unlinked { last } => Ok((fnode, last)),
            other => Err(self.broken(&format!("an unlink became {other:?}"))),
        }
    }

    /// Moves the link at `from` to `to`, and unlinks what was there. Nothing changes where both are links of
    /// one file.
    pub(crate) fn rename(&mut self, from: &LogPath, to: &LogPath) -> Result<()> {
        self.refuse_property(to, "rename without content over")?;
        let fnode = self.linked(from)?;
        if self.state.fsm.link(to) == Some(fnode) {
            return Ok(());
        }
        self.unlink_if_linked(to)?;
        self.push(OpBody::Link { fnode, path: to.clone() })?;
        self.push(OpBody::Unlink { fnode, path: from.clone() }).map(drop)
    }

    /// Replaces the property `to` by `content`, the file that is linked at `from`, if it is a recorded one.
    pub(crate) fn rename_to_property(&mut self, from: &LogPath, to: &LogPath, content: Bytes) -> Result<()> {
        self.unlink_if_linked(to)?;
        self.push(OpBody::Property { path: to.clone(), content })?;
        self.unlink_if_linked(from)
    }

    /// Writes `bytes`, whose CRC-32C is `crc32c`, to `fnode`.
    pub(crate) fn write(
        &mut self,
        fnode: Fnode,
        offset: u64,
        bytes: &[u8],
        crc32c: Option<u32>,
    ) -> Result<()> {
        self.is_live(fnode)?;
        let payload = Payload { len: bytes.len() as u64, crc32c };
        let body = OpBody::Write { fnode, offset };
        self.state.push(self.settings, body, bytes, Some(payload), None).map(drop)
    }

    /// Appends a no-op; it carries the time where extensions are on.
    pub(crate) fn no_op(&mut self, name: Option<Bytes>) -> Result<()> {
        let mark = self.settings.extensions.then(|| Mark { unix_nanos: self.mark_nanos(), name });
        self.state.push(self.settings, OpBody::NoOp, &[], None, mark).map(drop)
    }

    /// Appends a no-op that carries the time, and has a name.
    pub(crate) fn mark(&mut self, name: &str) -> Result<SeqNo> {
        let refused = |what: &'static str| Error::new(ErrorKind::Invalid, what).in_log(&self.settings.log);
        if !self.settings.extensions {
            return Err(refused("a recorder without extension fields writes no marks")
                .advise("record with `RecorderOptions::extensions`"));
        }
        if name.is_empty() || name.len() > MARK_NAME_BYTES_MAX || name.contains(char::is_control) {
            let expected = format!("1 to {MARK_NAME_BYTES_MAX} bytes of text without control characters");
            return Err(refused("a point of the history cannot have the name")
                .expected(expected, format_args!("{} bytes, \"{}\"", name.len(), shown(name))));
        }
        let seq_no = self.state.fsm.next_seq_no();
        self.no_op(Some(Bytes::copy_from_slice(name.as_bytes()))).map(|()| seq_no)
    }

    /// Returns the present time, and never less than before.
    pub(super) fn mark_nanos(&mut self) -> i64 {
        let now = self.settings.clock.unix_nanos().max(self.state.last_mark_nanos);
        self.state.last_mark_nanos = now;
        now
    }

    /// Tells whether `path` is a property, or becomes one when a file is renamed to it.
    pub(crate) fn is_property(&self, path: &LogPath) -> bool {
        self.state.fsm.property(path).is_some() || self.settings.property_paths.contains(path)
    }

    fn push(&mut self, body: OpBody) -> Result<Transition> {
        self.state.push(self.settings, body, &[], None, None)
    }

    fn unlink_if_linked(&mut self, path: &LogPath) -> Result<()> {
        match self.state.fsm.link(path) {
            Some(fnode) => self.push(OpBody::Unlink { fnode, path: path.clone() }).map(drop),
            None => Ok(()),
        }
    }

    fn linked(&self, path: &LogPath) -> Result<Fnode> {
        self.state.fsm.link(path).ok_or_else(|| {
            self.invalid(format!("no recorded file is linked at {path}"))
                .advise("record its creation first, or leave it out")
        })
    }

    fn is_live(&self, fnode: Fnode) -> Result<()> {
        if self.state.fsm.node(fnode).is_some() {
            return Ok(());
        }
        Err(self.invalid(format!("file {fnode} has no recorded link")))
    }

    fn refuse_property(&self, path: &LogPath, verb: &str) -> Result<()> {
        if !self.is_property(path) {
            return Ok(());
        }
        Err(self
            .invalid(format!("cannot {verb} the property {path}"))
            .advise("a property is only replaced whole: write another file, and rename it over this one"))
    }

    fn invalid(&self, what: String) -> Error {
        Error::new(ErrorKind::Invalid, what).in_log(&self.settings.log)
    }

    fn broken(&self, what: &str) -> Error {
        Error::new(ErrorKind::Diverged, what.to_owned()).in_log(&self.settings.log)
    }
}

/// Returns the beginning of a name, for a message.
fn shown(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}
