//! Small models and adapters with reproducible values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// A tensor on its way to a file.
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Values in -0.05..0.05, the same for the same name.
pub fn values(name: &str, n: usize) -> Vec<f32> {
    let mut state = u64::from_le_bytes(blake3::hash(name.as_bytes()).as_bytes()[..8].try_into().unwrap()) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next() * 0.1).collect()
}

pub fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        other => panic!("{other} is not written here"),
    }
}

pub fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> Tensor {
    let values = values(name, shape.iter().product());
    Tensor { name: name.into(), dtype, shape: shape.into(), bytes: encode(dtype, &values) }
}

pub fn write(path: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn read(path: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, v): (String, TensorView<'_>)| Tensor {
        name,
        dtype: v.dtype(),
        shape: v.shape().to_vec(),
        bytes: v.data().to_vec(),
    };
    parsed.tensors().into_iter().map(tensor).collect()
}

pub fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

/// A Llama-shaped base in several files.
pub struct Model {
    pub hidden: usize,
    pub layers: usize,
    pub vocab: usize,
    pub dtype: Dtype,
    pub files: usize,
}

impl Model {
    pub const SMALL: Model = Model { hidden: 64, layers: 2, vocab: 96, dtype: Dtype::BF16, files: 2 };

    fn tensors(&self) -> Vec<Tensor> {
        let (h, d) = (self.hidden, self.dtype);
        let mut all = vec![tensor("model.embed_tokens.weight", d, &[self.vocab, h])];
        for i in 0..self.layers {
            for (name, shape) in
                [("self_attn.q_proj", [h, h]), ("self_attn.v_proj", [h / 2, h]), ("mlp.down_proj", [h, 2 * h])]
            {
                all.push(tensor(&format!("model.layers.{i}.{name}.weight"), d, &shape));
            }
            all.push(tensor(&format!("model.layers.{i}.input_layernorm.weight"), d, &[h]));
        }
        all.push(tensor("lm_head.weight", d, &[self.vocab, h]));
        all
    }

    pub fn write(&self, dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let dtype = match self.dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            _ => "bfloat16",
        };
        write_json(
            &dir.join("config.json"),
            &json!({"model_type": "llama", "vocab_size": self.vocab, "torch_dtype": dtype, "tie_word_embeddings": false}),
        );
        std::fs::write(dir.join("tokenizer.json"), "{\"base\": true}").unwrap();
        std::fs::write(dir.join("generation_config.json"), "{}").unwrap();
        let mut rest = self.tensors();
        if self.files == 1 {
            write(&dir.join("model.safetensors"), &rest);
            return dir.into();
        }
        let (mut map, mut total) = (serde_json::Map::new(), 0);
        let per_file = rest.len().div_ceil(self.files);
        for i in 0..self.files {
            let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, self.files);
            let mine: Vec<Tensor> = rest.drain(..per_file.min(rest.len())).collect();
            for t in &mine {
                map.insert(t.name.clone(), file.clone().into());
                total += t.bytes.len();
            }
            write(&dir.join(file), &mine);
        }
        write_json(
            &dir.join("model.safetensors.index.json"),
            &json!({"metadata": {"total_size": total}, "weight_map": map}),
        );
        dir.into()
    }
}

/// A LoRA on q_proj, v_proj and down_proj of every layer.
pub fn lora(dir: &Path, model: &Model, rank: usize, seed: &str) -> PathBuf {
    lora_with(dir, model, rank, seed, json!({}), Vec::new())
}

/// The same with other keys in its configuration and more tensors.
pub fn lora_with(dir: &Path, model: &Model, rank: usize, seed: &str, config: Value, more: Vec<Tensor>) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let h = model.hidden;
    let mut tensors = more;
    for i in 0..model.layers {
        for (name, out, input) in
            [("self_attn.q_proj", h, h), ("self_attn.v_proj", h / 2, h), ("mlp.down_proj", h, 2 * h)]
        {
            let module = format!("base_model.model.model.layers.{i}.{name}");
            for (factor, shape) in [("lora_A", [rank, input]), ("lora_B", [out, rank])] {
                let mut t = tensor(&format!("{module}.{factor}.weight"), Dtype::F32, &shape);
                t.bytes = encode(Dtype::F32, &values(&format!("{seed}{}", t.name), shape[0] * shape[1]));
                tensors.push(t);
            }
        }
    }
    write(&dir.join("adapter_model.safetensors"), &tensors);
    let mut all = json!({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "v_proj", "down_proj"], "base_model_name_or_path": "base"});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    write_json(&dir.join("adapter_config.json"), &all);
    dir.into()
}
