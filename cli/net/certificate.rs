//! What a certificate says: its roles and its dates. Functions over bytes; the time is an argument.

use shardfuse_coordinator::service::role::Role;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate carries a role as a URI among its subject's alternative names: this, and the role's name.
pub const ROLE_URI: &str = "urn:shardfuse:role:";

/// A certificate that belongs to one worker carries its name as a URI: this, and the name.
pub const WORKER_URI: &str = "urn:shardfuse:worker:";

/// The name that a certificate gives to one worker alone. None for one that workers share, and for one with several names.
pub fn worker_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut found = names.value.general_names.iter().filter_map(|n| match n {
        GeneralName::URI(uri) => uri.strip_prefix(WORKER_URI),
        _ => None,
    });
    match (found.next(), found.next()) {
        (Some(name), None) if !name.is_empty() => Some(name.to_owned()),
        _ => None,
    }
}

/// What the bearer of a certificate may do. A certificate with both roles may do everything that a peer can ask for.
/// None without a role, with one that is not known, or for bytes that are no certificate.
pub fn role(der: &[u8]) -> Option<Role> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let has = |role: Role| {
        let uri = format!("{ROLE_URI}{role}");
        names.value.general_names.iter().any(|n| matches!(n, GeneralName::URI(u) if *u == uri))
    };
    match (has(Role::Worker), has(Role::Submitter)) {
        (true, true) => Some(Role::Trusted),
        (true, false) => Some(Role::Worker),
        (false, true) => Some(Role::Submitter),
        (false, false) => None,
    }
}

/// Why a certificate is of no use at a time, in seconds since 1970: `expired on …`, `not valid before …`, or that it
/// cannot be read.
pub fn fault(der: &[u8], now: i64) -> Option<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Some("is no X.509 certificate".into());
    };
    let dates = certificate.validity();
    if now > dates.not_after.timestamp() {
        Some(format!("expired on {}", dates.not_after))
    } else if now < dates.not_before.timestamp() {
        Some(format!("is not valid before {}", dates.not_before))
    } else {
        None
    }
}

/// When a certificate expires, in seconds since 1970. None for bytes that are no certificate.
pub fn expires(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn with(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_role_is_a_uri_and_nothing_that_looks_like_it() {
        let (worker, submitter) = ("urn:shardfuse:role:worker", "urn:shardfuse:role:submitter");
        for (uris, expected) in [
            (vec![worker], Some(Role::Worker)),
            (vec![submitter], Some(Role::Submitter)),
            (vec![submitter, "urn:other", worker], Some(Role::Trusted)),
            (vec!["urn:shardfuse:role:coordinator"], None),
            // Nobody is trusted for saying so.
            (vec!["urn:shardfuse:role:trusted"], None),
            (vec!["urn:shardfuse:role:worker2", "urn:shardfuse:role:Worker", "x-urn:shardfuse:role:worker"], None),
            (vec![], None),
        ] {
            assert_eq!(role(&with(&uris)), expected, "{uris:?}");
        }
        assert_eq!(role(b"no certificate"), None);
    }

    #[test]
    fn a_worker_has_a_name_if_its_certificate_has_one_and_no_other() {
        let role = "urn:shardfuse:role:worker";
        for (uris, expected) in [
            (vec![role, "urn:shardfuse:worker:pod-7"], Some("pod-7")),
            (vec![role], None),
            (vec![role, "urn:shardfuse:worker:"], None),
            (vec!["urn:shardfuse:worker:a", "urn:shardfuse:worker:b"], None),
            (vec![role, "spiffe://cluster/worker"], None),
        ] {
            assert_eq!(worker_name(&with(&uris)).as_deref(), expected, "{uris:?}");
        }
        assert_eq!(worker_name(b"no certificate"), None);
    }

    #[test]
    fn a_certificate_is_good_between_its_dates() {
        let der = with(&[]);
        assert_eq!(fault(&der, 1_590_000_000), None);
        assert!(fault(&der, 1_700_000_000).unwrap().starts_with("expired on "), "{:?}", fault(&der, 1_700_000_000));
        assert!(fault(&der, 1_000_000_000).unwrap().starts_with("is not valid before "));
        assert_eq!(fault(b"x", 0).unwrap(), "is no X.509 certificate");
        // The first of January 2021.
        assert_eq!((expires(&der), expires(b"x")), (Some(1_609_459_200), None));
    }
}
