//! Where a merge is fused: what is said when CUDA cannot be used, and that the merge goes on without it.

use crate::output::assert_same;
use crate::tool::{fail, merge, succeed};
use shardfuse_testkit::checkpoint::{Model, lora};

/// No device can be used with this, on a machine with a GPU as on one without a driver.
const NO_CUDA: (&str, &str) = ("NVIDIA_TF32_OVERRIDE", "1");

#[test]
fn without_cuda_auto_is_the_cpu_and_cuda_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let a = a.to_str().unwrap();
    let (cpu, auto, cuda) = (dir.path().join("cpu"), dir.path().join("auto"), dir.path().join("cuda"));
    succeed(merge(&base, &[a], &cpu).args(["--device", "cpu"]));
    succeed(merge(&base, &[a], &auto).env(NO_CUDA.0, NO_CUDA.1));
    assert_same(&cpu, &auto);

    for device in ["cuda", "cuda:0"] {
        let (code, kind, text) = fail(merge(&base, &[a], &cuda).args(["--device", device]).env(NO_CUDA.0, NO_CUDA.1));
        assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
        assert!(text.starts_with("--device cuda: "), "{text}");
        assert!(text.contains("NVIDIA_TF32_OVERRIDE=1") && text.contains("--device cpu"), "{text}");
    }
    assert!(!cuda.exists(), "a refused device leaves no output");
}

/// Where there is no NVIDIA driver, the program starts, merges on the CPU, and says what is missing.
#[test]
fn without_a_driver_the_same_binary_merges_on_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let a = a.to_str().unwrap();
    let (cuda, auto) = (dir.path().join("cuda"), dir.path().join("auto"));
    // The kernel's half of the driver: with it, the outcome is another test's.
    if std::path::Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let (code, kind, text) = fail(merge(&base, &[a], &cuda).args(["--device", "cuda"]));
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
    let missing = "libcuda.so.1 cannot be loaded";
    // A container may have the other half.
    assert!([missing, "finds no device", "cannot start"].iter().any(|why| text.contains(why)), "{text}");
    assert!(text.contains("--device cpu"), "{text}");
    assert!(!cuda.exists(), "a refused device leaves no output");
    succeed(merge(&base, &[a], &auto).args(["--device", "auto"]));
    assert!(auto.join("shardfuse.json").exists());
}

#[test]
fn a_device_that_is_no_name_of_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = Model::SMALL.write(&dir.path().join("base"));
    let out = dir.path().join("out");
    let (code, kind, text) = fail(merge(&base, &["x"], &out).args(["--device", "gpu"]));
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
    assert!(text.contains("\"gpu\""), "{text}");
}
