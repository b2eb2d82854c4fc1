//! What is alive, as a message that can be kept in a file.
//!
//! *Invariants.* A map that is read back is the one that was saved; a message that none can have given is refused.
//!
//! *Does not* frame or check the bytes of the message: whoever stores it does.

use super::extents::{Extent, Extents};
use super::{Kept, LiveFile, LiveMap, Run, ZONES_MIN, Zone};
use crate::ids::{Author, Fnode, JournalName, LogPath, SeqNo};

/// A [`LiveMap`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SavedLive {
    #[prost(message, repeated, tag = "1")]
    runs: Vec<SavedRun>,
    #[prost(message, repeated, tag = "2")]
    files: Vec<SavedFile>,
    #[prost(message, repeated, tag = "3")]
    properties: Vec<SavedProperty>,
    #[prost(message, repeated, tag = "4")]
    strays: Vec<SavedStray>,
    #[prost(message, repeated, tag = "5")]
    zones: Vec<SavedZone>,
    #[prost(sint64, repeated, tag = "6")]
    cuts: Vec<i64>,
    #[prost(message, optional, tag = "7")]
    last: Option<SavedKept>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedRun {
    #[prost(fixed32, tag = "1")]
    author: u32,
    #[prost(string, tag = "2")]
    log: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedFile {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(message, repeated, tag = "2")]
    kept: Vec<SavedKept>,
    #[prost(message, repeated, tag = "3")]
    extents: Vec<SavedExtent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedProperty {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    kept: Option<SavedKept>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedStray {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(uint32, tag = "2")]
    links: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedZone {
    #[prost(int64, tag = "1")]
    create: i64,
    #[prost(int64, tag = "2")]
    end: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedKept {
    #[prost(int64, tag = "1")]
    seq_no: i64,
    #[prost(uint64, tag = "2")]
    begin: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(fixed32, tag = "4")]
    before: u32,
    #[prost(fixed32, tag = "5")]
    after: u32,
    #[prost(uint32, tag = "6")]
    run: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedExtent {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(int64, tag = "2")]
    seq_no: i64,
    #[prost(uint64, tag = "3")]
    begin: u64,
    #[prost(uint32, tag = "4")]
    len: u32,
    #[prost(uint32, tag = "5")]
    payload_at: u32,
    #[prost(uint32, tag = "6")]
    bytes: u32,
    #[prost(uint32, tag = "7")]
    span: u32,
    #[prost(fixed32, tag = "8")]
    before: u32,
    #[prost(fixed32, tag = "9")]
    after: u32,
    #[prost(fixed32, tag = "10")]
    digest: u32,
    #[prost(uint32, tag = "11")]
    flagged_run: u32,
}

impl LiveMap {
    /// Returns the map as a message.
    pub(crate) fn to_saved(&self) -> SavedLive {
        let file = |(fnode, file): (&Fnode, &LiveFile)| SavedFile {
            fnode: fnode.get(),
            kept: file.kept.iter().copied().map(Kept::to_saved).collect(),
            extents: file.extents.iter().map(extent_to_saved).collect(),
        };
        let property = |(path, kept): (&LogPath, &Kept)| SavedProperty {
            path: path.as_bytes().to_vec(),
            kept: Some(kept.to_saved()),
        };
        let run = |run: &Run| SavedRun { author: run.author.get(), log: run.log.as_str().to_owned() };
        SavedLive {
            runs: self.runs.iter().map(run).collect(),
            files: self.files.iter().map(file).collect(),
            properties: self.properties.iter().map(property).collect(),
            strays: self
                .strays
                .iter()
                .map(|(fnode, links)| SavedStray { fnode: fnode.get(), links: *links })
                .collect(),
            zones: self.zones.iter().map(|zone| SavedZone { create: zone.create, end: zone.end }).collect(),
            cuts: self.cuts.clone(),
            last: self.last.map(Kept::to_saved),
        }
    }

    /// Returns the map that was saved; `None` for a message that no map gives.
    pub(crate) fn of_saved(saved: SavedLive) -> Option<Self> {
        let run = |run: SavedRun| {
            Some(Run { author: Author::new(run.author)?, log: JournalName::new(&run.log).ok()? })
        };
        let runs: Vec<Run> = saved.runs.into_iter().map(run).collect::<Option<_>>()?;
        let kept = |kept: SavedKept| Some(kept.to_kept()).filter(|kept| (kept.run as usize) < runs.len());
        let mut map = Self { cuts: saved.cuts, ..Self::default() };
        for SavedFile { fnode, kept: of_names, extents } in saved.files {
            let mut file = LiveFile {
                kept: of_names.into_iter().map(kept).collect::<Option<_>>()?,
                ..LiveFile::default()
            };
            file.extents = extents_of_saved(extents, runs.len())?;
            map.files.insert(Fnode::new(SeqNo::new(fnode)), file);
        }
        for SavedProperty { path, kept: of_property } in saved.properties {
            map.properties.insert(LogPath::from_bytes(&path), kept(of_property?)?);
        }
        map.strays = saved
            .strays
            .into_iter()
            .map(|stray| (Fnode::new(SeqNo::new(stray.fnode)), stray.links))
            .collect();
        map.zones = saved.zones.into_iter().map(|zone| Zone { create: zone.create, end: zone.end }).collect();
        map.zones_max = ZONES_MIN.max(2 * map.zones.len());
        map.last = match saved.last {
            Some(last) => Some(kept(last)?),
            None => None,
        };
        map.runs = runs;
        Some(map)
    }
}

impl Kept {
    const fn to_saved(self) -> SavedKept {
        let Self { seq_no, begin, end, before, after, run } = self;
        SavedKept { seq_no, begin, end, before, after, run }
    }
}

impl SavedKept {
    const fn to_kept(&self) -> Kept {
        let Self { seq_no, begin, end, before, after, run } = *self;
        Kept { seq_no, begin, end, before, after, run }
    }
}

fn extent_to_saved(extent: &Extent) -> SavedExtent {
    let Extent { at, seq_no, begin, len, payload_at, bytes, span, before, after, .. } = *extent;
    let (digest, flagged_run) = extent.flagged();
    SavedExtent { at, seq_no, begin, len, payload_at, bytes, span, before, after, digest, flagged_run }
}

/// Returns extents that stand in the order of the file, and do not overlap.
fn extents_of_saved(saved: Vec<SavedExtent>, runs: usize) -> Option<Extents> {
    let mut extents = Extents::default();
    for saved in saved {
        let mut extent = Extent::new(saved.at, saved.len, 0, saved.seq_no, (saved.begin, saved.bytes))
            .with_flagged(saved.digest, saved.flagged_run);
        (extent.payload_at, extent.span) = (saved.payload_at, saved.span);
        (extent.before, extent.after) = (saved.before, saved.after);
        let is_next = extents.last().is_none_or(|last| last.end() <= extent.at);
        let is_sound = extent.len > 0 && (extent.run() as usize) < runs && saved.payload_at <= saved.bytes;
        if !(is_next && is_sound) {
            return None;
        }
        extents.write(extent);
    }
    Some(extents)
}
