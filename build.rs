//! Generates the Rust form of the protobuf messages, without protoc: with feature `gazette` those of Gazette's brokers too,
//! with a client for the library and, apart from it, a server for its tests. With feature `rocksdb`, compiles the C++ part
//! of that adapter.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/recorded_op.proto");
    let descriptors = protox::compile(["proto/recorded_op.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    #[cfg(feature = "gazette")]
    gazette::generate()?;
    #[cfg(feature = "rocksdb")]
    rocksdb::compile()?;
    Ok(())
}

#[cfg(feature = "gazette")]
mod gazette {
    use std::error::Error;
    use std::path::PathBuf;
    use std::{env, fs};

    const PROTO: &str = "proto/broker.proto";

    #[expect(clippy::disallowed_methods, reason = "a build script writes where cargo says")]
    pub(super) fn generate() -> Result<(), Box<dyn Error>> {
        println!("cargo:rerun-if-changed={PROTO}");
        let descriptors = protox::compile([PROTO], ["proto"])?;
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?);
        for (side, is_server) in [("client", false), ("server", true)] {
            let folder = out.join(side);
            fs::create_dir_all(&folder)?;
            tonic_prost_build::configure()
                .build_client(!is_server)
                .build_server(is_server)
                .build_transport(false)
                .bytes(".")
                .out_dir(folder)
                .compile_fds(descriptors.clone())?;
        }
        Ok(())
    }
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use std::error::Error;
    use std::path::PathBuf;
    use std::{env, fs};

    const SHIM: &str = "src/engine/rocksdb/shim.cc";
    /// What the C interface of RocksDB hides, and the shim makes.
    const ENV: &str = "struct rocksdb_env_t { Env* rep; bool is_default; };";

    pub(super) fn compile() -> Result<(), Box<dyn Error>> {
        println!("cargo:rerun-if-changed={SHIM}");
        for name in ["ROCKSDB_LIB_DIR", "ROCKSDB_COMPILE"] {
            println!("cargo:rerun-if-env-changed={name}");
        }
        let is_set = |value: String| value == "1" || value.eq_ignore_ascii_case("true");
        if env::var_os("ROCKSDB_LIB_DIR").is_some() && !env::var("ROCKSDB_COMPILE").is_ok_and(is_set) {
            return Err(
                "ROCKSDB_LIB_DIR names a RocksDB of another make than the shim's headers: unset it".into()
            );
        }
        let directory = env::var("DEP_ROCKSDB_CARGO_MANIFEST_DIR")
            .map_err(|_| "librocksdb-sys does not say where its sources are: let it compile RocksDB")?;
        let sources = PathBuf::from(directory).join("rocksdb");

        let c = sources.join("db/c.cc");
        let words = fs::read_to_string(&c)?.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.contains(ENV) {
            return Err(format!("{} does not hold `{ENV}`: the shim makes it so", c.display()).into());
        }

        let mut build = cc::Build::new();
        build.cpp(true).std("c++20").flag("-fno-rtti").define("NDEBUG", Some("1"));
        build.flag("-isystem").flag(sources.join("include")).flag("-Wno-unused-parameter");
        build.file(SHIM).try_compile("recoverylog_rocksdb")?;
        Ok(())
    }
}
