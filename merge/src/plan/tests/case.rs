//! Inventories that are written down by hand, and what is planned of them.

use super::*;

pub(super) fn source(object: u32, name: &str, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(object), offset: 64, dtype: Dtype::F32, shape: shape.into() }
}

/// Tensor names and shapes.
pub(super) type Shapes = Vec<(&'static str, Vec<u64>)>;

pub(super) struct Case {
    pub(super) config: Value,
    pub(super) base: Shapes,
    pub(super) adapters: Vec<(Value, Shapes)>,
    pub(super) weights: Vec<f64>,
    pub(super) dora_norm: DoraNorm,
    /// Changes what is planned at last.
    pub(super) adjust: fn(&mut MergeSpec, &mut Inventory),
}

impl Case {
    pub(super) fn new(config: Value, base: &[(&'static str, &[u64])]) -> Case {
        let base = base.iter().map(|(n, s)| (*n, s.to_vec())).collect();
        Case {
            config,
            base,
            adapters: Vec::new(),
            weights: Vec::new(),
            dora_norm: DoraNorm::Standing,
            adjust: |_, _| (),
        }
    }

    pub(super) fn adapter(mut self, config: Value, tensors: &[(&'static str, &[u64])]) -> Case {
        self.adapters.push((config, tensors.iter().map(|(n, s)| (*n, s.to_vec())).collect()));
        self.weights.push(1.0);
        self
    }

    pub(super) fn plan(&self) -> Result<(Plan, Report)> {
        let (spec, inventory) = self.inputs()?;
        Plan::new(spec, &inventory)
    }

    pub(super) fn inputs(&self) -> Result<(MergeSpec, Inventory)> {
        let object = |url: String| Object { url, size: 1 << 30, pin: "p".into(), seen: "s".into() };
        // Two tensors at one place are one.
        let at = |i: usize| 64 + ((i as u64) << 20);
        let tensors =
            self.base.iter().enumerate().map(|(i, (n, s))| Source { offset: at(i), ..source(0, n, s) }).collect();
        let shard = Shard { name: "model.safetensors".into(), metadata: BTreeMap::new(), tensors };
        let base = BaseInventory {
            url: "base".into(),
            config_bytes: self.config.to_string().into_bytes(),
            config: self.config.clone(),
            shards: vec![shard],
            indexed: false,
            sidecars: Vec::new(),
            small: Default::default(),
            repeated: Vec::new(),
            card: None,
            compared: self.base.iter().filter(|(name, _)| *name == HEAD).map(|_| compared(HEAD, true)).collect(),
            files: Vec::new(),
            skipped: Vec::new(),
            listed: true,
        };
        let mut objects = vec![object("base/model.safetensors".into())];
        let mut adapters = Vec::new();
        for (i, (config, tensors)) in self.adapters.iter().enumerate() {
            let mut all = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
            all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            adapters.push(AdapterInventory {
                url: format!("adapter{i}"),
                config: AdapterConfig::parse(all.to_string().as_bytes())?,
                tensors: tensors.iter().map(|(n, s)| source(i as u32 + 1, n, s)).collect(),
                extra: Vec::new(),
                sidecars: Vec::new(),
                skipped: Vec::new(),
                files: Vec::new(),
            });
            objects.push(object(format!("adapter{i}/adapter_model.safetensors")));
        }
        let lora = self.weights.iter().enumerate().map(|(i, w)| LoraSpec { path: format!("adapter{i}"), weight: *w });
        let mut spec = MergeSpec { part_size: 1024, dora_norm: self.dora_norm, ..MergeSpec::of("base", lora, "out") };
        let mut inventory = Inventory { objects, base, adapters, tokenizer: None, grain: None };
        (self.adjust)(&mut spec, &mut inventory);
        Ok((spec, inventory))
    }

    pub(super) fn recipe(&self, name: &str) -> Recipe {
        let (plan, _) = self.plan().unwrap();
        let found = plan.output.files.iter().flat_map(|f| &f.tensors).find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in the output")).recipe.clone()
    }

    pub(super) fn ops(&self, name: &str) -> Vec<Op> {
        match self.recipe(name) {
            Recipe::Copy(_) => Vec::new(),
            Recipe::Fuse(f) => f.steps.into_iter().map(|s| s.op).collect(),
            Recipe::Requantise(r) => r.fuse.steps.into_iter().map(|s| s.op).collect(),
        }
    }

    pub(super) fn refusal(&self) -> (Kind, String) {
        let error = self.plan().expect_err("this is refused");
        (error.kind(), error.message().to_owned())
    }
}

/// What a comparison of the embedding with its copy found.
pub(super) fn compared(copy: &str, same: bool) -> Comparison {
    Comparison { left: E.into(), right: copy.into(), same, read: 240 }
}

pub(super) const LLAMA: &str = "llama";

pub(super) fn linear() -> Case {
    Case::new(
        json!({"model_type": LLAMA}),
        &[("m.q_proj.weight", &[6, 6]), ("m.q_proj.bias", &[6]), ("m.v_proj.weight", &[6, 6])],
    )
}

pub(super) const Q: [(&str, &[u64]); 2] =
    [("base_model.model.m.q_proj.lora_A.weight", &[2, 6]), ("base_model.model.m.q_proj.lora_B.weight", &[6, 2])];

pub(super) fn scale_of(config: Value) -> f32 {
    let case = linear().adapter(config, &Q);
    case.ops("m.q_proj.weight")[0].delta().unwrap().scale()
}

/// The first operand of a delta: the left factor of a low-rank one.
pub(super) fn left(delta: &Delta) -> &Operand {
    delta.inputs()[0].operand
}

pub(super) fn is_transposed(delta: &Delta) -> bool {
    left(delta).view.order() == Some(Order::ColumnMajor)
}

pub(super) const E: &str = "model.embed_tokens.weight";
pub(super) const HEAD: &str = "lm_head.weight";

pub(super) fn tied(physical_head: bool) -> Case {
    let mut base: Vec<(&'static str, &[u64])> = vec![(E, &[10, 6]), ("model.q.weight", &[6, 6])];
    if physical_head {
        base.push(("lm_head.weight", &[10, 6]));
    }
    Case::new(json!({"model_type": LLAMA, "tie_word_embeddings": true, "vocab_size": 10}), &base)
}

pub(super) fn config_of(case: &Case) -> Value {
    match case.plan().unwrap().0.output.config {
        crate::output::SmallFile::Text(text) => serde_json::from_str(&text).unwrap(),
        crate::output::SmallFile::Copy(_) => panic!("config.json is written by us"),
    }
}
