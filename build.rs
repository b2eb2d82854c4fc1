//! Generates the Rust form of the protobuf messages, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/recorded_op.proto");
    let descriptors = protox::compile(["proto/recorded_op.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
