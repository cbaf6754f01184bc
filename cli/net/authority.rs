//! An authority and the certificates it signs, as PEM text. The time is an argument; keys are random.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use shardfuse_merge::{Error, Kind, Result};
use x509_parser::pem::parse_x509_pem;

use super::certificate::{self, ROLE_URI};

const DAY: u64 = 86_400;
/// A new authority lasts so long, or as long as its certificates.
const AUTHORITY_DAYS: u64 = 3_650;
/// Certificates are good a little before they are made, for clocks that are behind.
const BEHIND: u64 = 300;

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// It listens, under the hosts' names.
    Coordinator,
    /// It takes tasks.
    Worker,
    /// It submits merges.
    Submitter,
    /// One of a job whose machines are all alike: one of them coordinates, and every one of them works.
    Job,
}

impl Bearer {
    /// All of them.
    pub const ALL: [Bearer; 4] = [Bearer::Coordinator, Bearer::Worker, Bearer::Submitter, Bearer::Job];

    /// The name, as files and Secrets carry it.
    pub fn name(self) -> &'static str {
        match self {
            Bearer::Coordinator => "coordinator",
            Bearer::Worker => "worker",
            Bearer::Submitter => "submitter",
            Bearer::Job => "job",
        }
    }

    fn roles(self) -> &'static [&'static str] {
        match self {
            Bearer::Coordinator => &["coordinator"],
            Bearer::Worker => &["worker"],
            Bearer::Submitter => &["submitter"],
            Bearer::Job => &["coordinator", "worker"],
        }
    }

    /// Whether clients will look for a host's name in its certificate.
    fn listens(self) -> bool {
        matches!(self, Bearer::Coordinator | Bearer::Job)
    }
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Pair {
    /// PEM.
    pub cert: String,
    /// PEM, PKCS #8.
    pub key: String,
}

/// The authority that signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
    /// Seconds since 1970.
    now: u64,
    days: u64,
}

impl Authority {
    /// A new one. `now` is in seconds since 1970, `days` is how long certificates last.
    pub fn new(now: u64, days: u64) -> Result<Authority> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(now, days.max(AUTHORITY_DAYS));
        // Two authorities must not have one name: a certificate of the other would then look forged instead of foreign.
        let id = blake3::hash(key.public_key_raw()).to_hex();
        params.distinguished_name.push(DnType::CommonName, format!("shardfuse authority {}", &id[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(refused)?.pem();
        let pair = Pair { cert, key: key.serialize_pem() };
        Ok(Authority { issuer: Issuer::new(params, key), pair, now, days })
    }

    /// The one in these files.
    pub fn existing(pair: Pair, now: u64, days: u64) -> Result<Authority> {
        let wrong = |what: &str, why: &str| Error::new(Kind::Usage, format!("{what} {why}"));
        // What is wrong with a key is said without a word of it.
        let key = KeyPair::from_pem(&pair.key).map_err(|_| wrong("--ca-key", "is no private key in PEM"))?;
        let (_, pem) = parse_x509_pem(pair.cert.as_bytes()).map_err(|_| wrong("--ca-cert", "is no PEM file"))?;
        if let Some(fault) = certificate::fault(&pem.contents, now as i64) {
            return Err(wrong("--ca-cert", &fault));
        }
        let parsed = pem.parse_x509().map_err(|_| wrong("--ca-cert", "is no X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(wrong("--ca-cert", "is the certificate of no authority").hint("ca.pem is, of what certs wrote"));
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(wrong("--ca-key", "is not the key of --ca-cert"));
        }
        let left = (parsed.validity().not_after.timestamp() - now as i64).max(0) as u64 / DAY;
        if left < days {
            return Err(Error::new(
                Kind::Usage,
                format!("--days is {days}, but the authority itself expires in {left} days"),
            )
            .hint("give fewer --days, or make a new authority by leaving --ca-cert and --ca-key out"));
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.cert, key).map_err(refused)?;
        Ok(Authority { issuer, pair, now, days })
    }

    /// Its certificate, which everybody needs, and its key, which nobody of a fleet needs.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Signs a new certificate. `hosts` are the coordinator's names and addresses.
    pub fn certificate(&self, bearer: Bearer, hosts: &[String]) -> Result<Pair> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(self.now, self.days);
        params.distinguished_name.push(DnType::CommonName, format!("shardfuse {}", bearer.name()));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for role in bearer.roles() {
            params.subject_alt_names.push(SanType::URI(format!("{ROLE_URI}{role}").try_into().map_err(refused)?));
        }
        if bearer.listens() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            for host in hosts.iter().map(String::as_str).chain(["localhost", "127.0.0.1", "::1"]) {
                let name = name(host)?;
                if !params.subject_alt_names.contains(&name) {
                    params.subject_alt_names.push(name);
                }
            }
        }
        let cert = params.signed_by(&key, &self.issuer).map_err(refused)?.pem();
        Ok(Pair { cert, key: key.serialize_pem() })
    }
}

fn params(now: u64, days: u64) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BEHIND));
    params.not_after = epoch + Duration::from_secs(now + days * DAY);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// A host as TLS compares it: an address, or a name with at most one star in front.
fn name(host: &str) -> Result<SanType> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if host.len() > 253 || !host.strip_prefix("*.").unwrap_or(host).split('.').all(label) {
        return Err(Error::new(Kind::Usage, format!("--host {host:?} is no name and no address"))
            .hint("a name alone, such as coordinator.example, without scheme and port"));
    }
    Ok(SanType::DnsName(host.try_into().map_err(refused)?))
}

fn refused(e: rcgen::Error) -> Error {
    Error::new(Kind::Internal, format!("a certificate cannot be made: {e}"))
}

#[cfg(test)]
mod tests {
    use shardfuse_coordinator::service::role::Role;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn der(pair: &Pair) -> Vec<u8> {
        parse_x509_pem(pair.cert.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn certificates_carry_their_role_and_dates() {
        let authority = Authority::new(NOW, 30).unwrap();
        for (bearer, role) in [
            (Bearer::Coordinator, None),
            (Bearer::Worker, Some(Role::Worker)),
            (Bearer::Submitter, Some(Role::Submitter)),
            (Bearer::Job, Some(Role::Worker)),
        ] {
            let der = der(&authority.certificate(bearer, &[]).unwrap());
            assert_eq!(certificate::role(&der), role, "{bearer:?}");
            let at = |days: u64| certificate::fault(&der, (NOW + days * DAY) as i64);
            assert_eq!(at(29), None);
            assert!(at(31).unwrap().contains("expired"));
        }
        assert_eq!(certificate::role(&der(authority.pair())), None);
    }

    #[test]
    fn workers_and_submitters_cannot_pass_for_a_host() {
        let authority = Authority::new(NOW, 30).unwrap();
        let hosts = ["shardfuse-0.shardfuse".to_owned(), "10.0.0.7".to_owned()];
        for bearer in Bearer::ALL {
            let der = der(&authority.certificate(bearer, &hosts).unwrap());
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
            let server = parsed.extended_key_usage().unwrap().unwrap().value.server_auth;
            let names = parsed.subject_alternative_name().unwrap().unwrap().value.to_owned();
            let text = format!("{:?}", names.general_names);
            assert_eq!(server, bearer.listens());
            assert_eq!(text.contains("shardfuse-0.shardfuse"), bearer.listens(), "{text}");
        }
    }

    #[test]
    fn an_authority_signs_again_until_it_expires_itself() {
        let pair = Authority::new(NOW, 30).unwrap().pair().clone();
        let later = |now, days| Authority::existing(pair.clone(), now, days);
        assert!(later(NOW + 1000 * DAY, 365).unwrap().certificate(Bearer::Worker, &[]).is_ok());
        let message = |a: Result<Authority>| a.err().unwrap().message().to_owned();
        assert!(message(later(NOW + 3_600 * DAY, 365)).contains("expires in 50 days"));
        assert!(message(later(NOW + 4_000 * DAY, 1)).contains("expired"));
        let other = Authority::new(NOW, 30).unwrap().pair().key.clone();
        assert!(message(Authority::existing(Pair { key: other, ..pair.clone() }, NOW, 1)).contains("not the key of"));
        let worker = later(NOW, 30).unwrap().certificate(Bearer::Worker, &[]).unwrap();
        assert!(message(Authority::existing(worker, NOW, 1)).contains("of no authority"));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in ["a", "a.b-c.d", "*.shardfuse.svc", "10.0.0.1", "::1", "[::1]"] {
            assert!(name(host).is_ok(), "{host}");
        }
        for host in ["", "https://a", "a:7070", "a b", "a.*.b", "a..b"] {
            assert_eq!(name(host).unwrap_err().kind(), Kind::Usage, "{host}");
        }
    }
}
