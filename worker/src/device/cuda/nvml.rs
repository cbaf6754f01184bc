//! Figures of cards in use, from NVML, for the metrics. Where there is no libnvidia-ml, or it does not know a figure, that
//! figure is not there and nothing else changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use tracing::debug;

use super::gpu::Gpu;

/// How often NVML is asked. A card takes its own sample of the utilisation up to once a second.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps gauges of these cards up to date until all of them are gone, on a thread of its own: NVML may wait for a card.
pub fn observe(gpus: &[Arc<Gpu>]) {
    let gpus: Vec<Weak<Gpu>> = gpus.iter().map(Arc::downgrade).collect();
    if gpus.is_empty() {
        return;
    }
    let observing = move || match Nvml::init() {
        Ok(nvml) => {
            while sample(&nvml, &gpus) {
                std::thread::sleep(EVERY);
            }
        }
        Err(error) => debug!(%error, "no figures of the cards"),
    };
    if let Err(error) = std::thread::Builder::new().name("nvml".into()).spawn(observing) {
        debug!(%error, "no figures of the cards");
    }
}

/// Takes one sample of each card. False if none is left.
fn sample(nvml: &Nvml, gpus: &[Weak<Gpu>]) -> bool {
    let names: Vec<(u32, String)> =
        gpus.iter().filter_map(Weak::upgrade).map(|gpu| (gpu.number(), gpu.uuid().to_owned())).collect();
    for (number, uuid) in &names {
        let device = match nvml.device_by_uuid(uuid.as_str()) {
            Ok(device) => device,
            Err(error) => {
                debug!(uuid, %error, "NVML does not know the card");
                continue;
            }
        };
        let labels = [("device", number.to_string())];
        if let Ok(rates) = device.utilization_rates() {
            metrics::gauge!("shardfuse_gpu_utilization_ratio", &labels).set(f64::from(rates.gpu) / 100.0);
        }
        if let Ok(memory) = device.memory_info() {
            metrics::gauge!("shardfuse_gpu_memory_used_bytes", &labels).set(memory.used as f64);
            metrics::gauge!("shardfuse_gpu_memory_total_bytes", &labels).set(memory.total as f64);
        }
        if let Ok(degrees) = device.temperature(TemperatureSensor::Gpu) {
            metrics::gauge!("shardfuse_gpu_temperature_celsius", &labels).set(f64::from(degrees));
        }
    }
    !names.is_empty()
}
