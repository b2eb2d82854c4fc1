//! The store of a cluster: a folder of fragments, each packed as its journal says.
//!
//! *Invariants.* A file has the name that Gazette gives it, and is whole before it has it.
//!
//! *Does not* read: readers of the library do.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::protocol::{CompressionCodec, Fragment};

/// Where fragments go; nowhere without a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) root: Option<PathBuf>,
}

impl Store {
    pub(super) fn put(&self, fragment: &Fragment, content: &[u8]) {
        let Some(root) = &self.root else { return };
        let path = root.join(path(fragment));
        let packed = packed(fragment.compression_codec(), content);
        let unnamed = root.join("unnamed");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&unnamed, packed).unwrap();
        fs::rename(unnamed, path).unwrap();
    }
}

/// Returns the path of a fragment below the root of its store.
pub(crate) fn path(fragment: &Fragment) -> String {
    let Fragment { journal, begin, end, .. } = fragment;
    let sum = fragment.sum.unwrap_or_default();
    let extension = match fragment.compression_codec() {
        CompressionCodec::Gzip => ".gz",
        CompressionCodec::Zstandard => ".zst",
        CompressionCodec::Snappy => ".sz",
        CompressionCodec::GzipOffloadDecompression => "",
        CompressionCodec::None | CompressionCodec::Invalid => ".raw",
    };
    let sum = format!("{:016x}{:016x}{:08x}", sum.part1, sum.part2, sum.part3);
    format!("{journal}/{begin:016x}-{end:016x}-{sum}{extension}")
}

fn packed(codec: CompressionCodec, content: &[u8]) -> Vec<u8> {
    match codec {
        CompressionCodec::None | CompressionCodec::Invalid => content.to_vec(),
        CompressionCodec::Gzip | CompressionCodec::GzipOffloadDecompression => {
            // In two members, as brokers make them that pack as they go.
            let (one, other) = content.split_at(content.len() / 2);
            let pack = |part: &[u8]| {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(part).unwrap();
                packer.finish().unwrap()
            };
            [pack(one), pack(other)].concat()
        }
        CompressionCodec::Zstandard => zstd::encode_all(content, 1).unwrap(),
        CompressionCodec::Snappy => {
            let mut packer = snap::write::FrameEncoder::new(Vec::new());
            packer.write_all(content).unwrap();
            packer.into_inner().unwrap()
        }
    }
}
