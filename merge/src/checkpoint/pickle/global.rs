//! The globals that a pickle may name, and what they stand for here. Everything else is refused by name.

use super::refuse::{shown, unsupported};
use crate::error::{Error, Kind, Result};
use crate::tensor::Dtype;

/// What to do about a pickle that is more than data.
pub(super) const DISTRUST: &str =
    "nothing of it was run; if you trust its source, load it with torch and save the tensors as safetensors";

/// A global of the allow-list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch.Size`: a tuple.
    Size,
    Rebuild(Rebuild),
    /// A class of storages; without a type the elements are bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

/// The functions of `torch._utils` that make a tensor from a storage, or a parameter from a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuild {
    Tensor,
    TensorV2,
    /// As the second, for untyped storages: the dtype is an argument.
    TensorV3,
    Parameter,
    ParameterWithState,
}

impl Rebuild {
    /// Its name in `torch._utils`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Rebuild::Tensor => "_rebuild_tensor",
            Rebuild::TensorV2 => "_rebuild_tensor_v2",
            Rebuild::TensorV3 => "_rebuild_tensor_v3",
            Rebuild::Parameter => "_rebuild_parameter",
            Rebuild::ParameterWithState => "_rebuild_parameter_with_state",
        }
    }
}

/// What `module.name` stands for.
pub(super) fn resolve(module: &str, name: &str) -> Result<Global> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch", "Size") => Some(Global::Size),
        ("torch._utils", name) => rebuild(name).map(Global::Rebuild),
        ("torch.storage", "UntypedStorage") => Some(Global::Storage(None)),
        ("torch", name) => {
            typed_storage(name).map(|d| Global::Storage(Some(d))).or_else(|| dtype(name).map(Global::Dtype))
        }
        _ => None,
    };
    known.ok_or_else(|| refusal(module, name))
}

/// The refusal of a global that is not on the list.
fn refusal(module: &str, name: &str) -> Error {
    let (shown_module, shown_name) = (shown(module), shown(name));
    if is_other_tensor(module, name) {
        return unsupported(format!(
            "the pickle holds a tensor of a kind that is not supported: {shown_module}.{shown_name}"
        ))
        .hint("load the file with torch and save plain dense tensors again");
    }
    Error::new(Kind::UnsafePickle, format!("the pickle calls {shown_module}.{shown_name}, which is not tensor data"))
        .hint(DISTRUST)
}

fn rebuild(name: &str) -> Option<Rebuild> {
    use Rebuild::{Parameter, ParameterWithState, Tensor, TensorV2, TensorV3};
    [Tensor, TensorV2, TensorV3, Parameter, ParameterWithState].into_iter().find(|r| r.name() == name)
}

fn typed_storage(name: &str) -> Option<Dtype> {
    Some(match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        _ => return None,
    })
}

/// Tensors that torch can write and that are no bytes in row order. They are refused all the same, but nobody need fear
/// the file.
fn is_other_tensor(module: &str, name: &str) -> bool {
    match module {
        "torch._utils" => matches!(
            name,
            "_rebuild_sparse_tensor"
                | "_rebuild_qtensor"
                | "_rebuild_nested_tensor"
                | "_rebuild_meta_tensor_no_storage"
                | "_rebuild_wrapper_subclass"
                | "_rebuild_device_tensor_from_numpy"
                | "_rebuild_device_tensor_from_cpu_tensor"
        ),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch" => matches!(
            name,
            "ComplexDoubleStorage"
                | "QInt8Storage"
                | "QUInt8Storage"
                | "QInt32Storage"
                | "QUInt4x2Storage"
                | "QUInt2x4Storage"
                | "complex32"
                | "complex128"
                | "float4_e2m1fn_x2"
                | "qint8"
                | "quint8"
                | "qint32"
                | "quint4x2"
                | "quint2x4"
        ),
        _ => false,
    }
}
