//! The names that decide. `*` stands for any number of characters.

/// The name of the file with the digests of a base's bytes.
pub const DIGESTS: &str = "shardfuse.index.json";

/// A name and what it is.
pub(super) type Names = [(&'static str, &'static str)];

/// Files in the top folder of a base that stay behind.
pub(super) const BASE_FILES: &Names = &[
    ("model*.safetensors", WEIGHTS),
    ("model*.safetensors.index.json", INDEX),
    ("pytorch_model*.bin", WEIGHTS),
    ("pytorch_model*.bin.index.json", INDEX),
    ("consolidated*", "weights in another layout, from before the merge"),
    ("*.gguf", FORMAT),
    ("*.ggml", FORMAT),
    ("*.onnx*", FORMAT),
    ("tf_model*", FORMAT),
    ("flax_model*", FORMAT),
    ("rust_model*", FORMAT),
    ("adapter_config.json", ADAPTER),
    ("adapter_model.*", ADAPTER),
    ("adapter_model-*-of-*", ADAPTER),
    ("*.tfevents*", "a log of training"),
    ("shardfuse.json", "the manifest of the merge that made the base"),
    (DIGESTS, "the digests of the base's bytes"),
];
const WEIGHTS: &str = "weights that the model does not use";
const INDEX: &str = "an index that the model does not use";
const FORMAT: &str = "weights in another format, from before the merge";
const ADAPTER: &str = "an adapter: transformers would apply it to the output once more";

/// Top folders of a base that stay behind.
pub(super) const BASE_FOLDERS: &Names = &[
    ("original", "weights in another layout, from before the merge"),
    ("metal", FORMAT),
    ("onnx", FORMAT),
    ("openvino", FORMAT),
];

/// Files in the top folder that training leaves beside a model or an adapter.
pub(super) const TRAINING_FILES: &Names = &[
    ("optimizer*", TRAINING),
    ("scheduler*", TRAINING),
    ("scaler*", TRAINING),
    ("rng_state*", TRAINING),
    ("training_args.bin", TRAINING),
];
/// Top folders that training leaves.
pub(super) const TRAINING_FOLDERS: &Names = &[("global_step*", TRAINING), ("checkpoint-*", TRAINING)];
const TRAINING: &str = "the state of training";

/// Files beside an adapter that hold parameters which were trained whole: LLaVA's and Qwen-VL's training, ms-swift's.
pub(super) const TRAINED: &[&str] = &[
    "non_lora_trainables.bin",
    "non_lora_state_dict.bin",
    "mm_projector.bin",
    "vit.safetensors",
    "aligner.safetensors",
];

/// Well-known weight files beside an adapter, and why they are not merged.
pub(super) const KNOWN_WEIGHTS: &Names = &[
    ("value_head.*", "is the value head of a reward or PPO training, which a language model has no place for"),
    ("new_embeddings.*", "appends rows to the embeddings, which is not supported"),
    ("model*", "looks like a whole model"),
    ("pytorch_model*", "looks like a whole model"),
    ("consolidated*", "looks like a whole model"),
];

/// Endings of files that hold weights, or name the files that do.
const WEIGHT_ENDINGS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".index.json",
    ".npz",
];

/// What downloaders and copiers call a file that is not complete.
const PARTIAL: &[&str] = &[
    "*.incomplete",  // huggingface_hub
    "*.aria2",       // aria2's note that the file beside it is not complete
    "*.part",        // Firefox, wget2, curl scripts
    "*.partial",     // rclone
    "*.crdownload",  // Chrome
    "*.download",    // Safari
    "*.filepart",    // WinSCP
    "*.gstmp",       // gsutil
    ".azDownload-*", // azcopy
];

/// Names beside those of `sidecar::well_known` to ask for where a folder cannot be listed.
pub(in crate::checkpoint) const ASKED: &[&str] = &[
    "adapter_model.safetensors.index.json",
    "adapter_model.bin.index.json",
    "non_lora_trainables.bin",
    "non_lora_state_dict.bin",
    "mm_projector.bin",
    "vit.safetensors",
    "aligner.safetensors",
    "value_head.safetensors",
    "value_head.bin",
    "new_embeddings.safetensors",
    "new_embeddings.bin",
];

/// The entry of a table that a name matches.
pub(super) fn entry(table: &Names, name: &str) -> Option<&'static str> {
    table.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, what)| *what)
}

/// Whether a file holds weights, by its ending.
pub(super) fn is_weights(name: &str) -> bool {
    WEIGHT_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is one that a download or a copy has not finished.
pub(super) fn is_partial(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    PARTIAL.iter().any(|pattern| matches(pattern, last)) || is_rsyncs(last)
}

/// rsync writes `.NAME.XXXXXX` until the file is whole.
fn is_rsyncs(last: &str) -> bool {
    last.strip_prefix('.').and_then(|rest| rest.rsplit_once('.')).is_some_and(|(name, random)| {
        random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric()) && is_weights(name)
    })
}

/// The outermost hidden folder that a name lies in, with `/` at the end.
pub(super) fn hidden_folder(name: &str) -> Option<&str> {
    let mut end = 0;
    for part in name.split_inclusive('/') {
        end += part.len();
        if part.ends_with('/') && part.starts_with('.') {
            return Some(&name[..end]);
        }
    }
    None
}

/// Whether `name` is what `pattern` describes.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}
