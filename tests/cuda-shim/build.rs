//! Compiles kernels.cu for the host.

fn main() {
    let kernels = "../../worker/src/device/cuda/kernels.cu";
    println!("cargo:rerun-if-changed={kernels}");
    println!("cargo:rerun-if-changed=src/host.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include("../../worker/src/device/cuda")
        .file("src/host.cpp")
        .opt_level(2)
        // Nothing may be contracted or reordered that is not written so.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag("-fvisibility=hidden")
        .compile("kernels");
    // libm's fmaf; the C++ runtime comes with `cpp(true)`.
    println!("cargo:rustc-link-lib=m");
}
