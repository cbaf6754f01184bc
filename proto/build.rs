//! Compiles the .proto files with protox, a compiler in Rust: no protoc is needed. The descriptors are kept for reflection.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 3] =
    ["proto/shardfuse/v1/work.proto", "proto/shardfuse/v1/spec.proto", "proto/shardfuse/v1/merges.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    #[allow(clippy::disallowed_methods, reason = "a build script writes into its own folder")]
    std::fs::write(out.join("shardfuse.v1.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
