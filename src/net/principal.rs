//! Who a peer is: a name taken from its certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::service::Authority;

/// The longest principal name, in bytes. X.509 allows 64 characters for a common name; URIs may be longer.
const NAME_BYTES_MAX: usize = 256;

/// A principal, in Kafka's form `User:NAME`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    name: Arc<str>,
}

impl Principal {
    /// A peer without a certificate, where certificates are optional: `User:ANONYMOUS`, as Kafka calls it.
    #[must_use]
    pub fn anonymous() -> Principal {
        Principal::named("ANONYMOUS")
    }

    /// The principal `User:NAME`.
    #[must_use]
    pub fn named(name: &str) -> Principal {
        Principal { name: name.into() }
    }

    /// The name without `User:`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The principal of the holder of a certificate (DER).
    pub(super) fn of_certificate(
        certificate: &[u8],
        rule: PrincipalRule,
    ) -> Result<Principal, PrincipalError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| PrincipalError::Unreadable(error.to_string()))?;
        let name = rule.name(&parsed)?.ok_or(PrincipalError::Missing(rule))?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(PrincipalError::Unusable(rule));
        }
        // A certificate must not be able to claim the name of those who have none.
        if name == "ANONYMOUS" {
            return Err(PrincipalError::Reserved);
        }
        Ok(Principal::named(&name))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name)
    }
}

/// A text is not `User:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a principal: write User:NAME")]
pub struct InvalidPrincipal(String);

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Principal, InvalidPrincipal> {
        match text.strip_prefix("User:") {
            Some(name) if !name.is_empty() => Ok(Principal::named(name)),
            _ => Err(InvalidPrincipal(text.to_owned())),
        }
    }
}

/// Which part of a certificate names its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PrincipalRule {
    /// The subject's common name (CN). If there are several, the most specific: the last one.
    #[default]
    CommonName,
    /// The whole subject, as `CN=alice,OU=payments,O=example`: Kafka's own default.
    Subject,
    /// The first DNS name among the subject's alternative names.
    DnsName,
    /// The first e-mail address among them.
    Email,
    /// The first URI among them (SPIFFE ids are URIs).
    Uri,
}

impl PrincipalRule {
    fn name(self, certificate: &X509Certificate<'_>) -> Result<Option<String>, PrincipalError> {
        match self {
            PrincipalRule::CommonName => {
                let Some(name) = certificate.subject().iter_common_name().last() else { return Ok(None) };
                let text = name.as_str().map_err(|error| PrincipalError::Unreadable(error.to_string()))?;
                Ok(Some(text.to_owned()))
            }
            PrincipalRule::Subject => Ok(Some(rfc2253(certificate)?)),
            PrincipalRule::DnsName | PrincipalRule::Email | PrincipalRule::Uri => {
                let names = certificate
                    .subject_alternative_name()
                    .map_err(|error| PrincipalError::Unreadable(error.to_string()))?;
                let mut names = names.iter().flat_map(|extension| &extension.value.general_names);
                Ok(names.find_map(|name| match (self, name) {
                    (PrincipalRule::DnsName, GeneralName::DNSName(text))
                    | (PrincipalRule::Email, GeneralName::RFC822Name(text))
                    | (PrincipalRule::Uri, GeneralName::URI(text)) => Some((*text).to_owned()),
                    _ => None,
                }))
            }
        }
    }
}

/// The subject with its most specific part first and special characters escaped (RFC 2253), as Java writes it.
fn rfc2253(certificate: &X509Certificate<'_>) -> Result<String, PrincipalError> {
    let mut parts = Vec::new();
    for attribute in certificate.subject().iter_attributes() {
        let value = attribute.as_str().map_err(|error| PrincipalError::Unreadable(error.to_string()))?;
        let label = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN".to_owned(),
            "2.5.4.6" => "C".to_owned(),
            "2.5.4.7" => "L".to_owned(),
            "2.5.4.8" => "ST".to_owned(),
            "2.5.4.9" => "STREET".to_owned(),
            "2.5.4.10" => "O".to_owned(),
            "2.5.4.11" => "OU".to_owned(),
            "0.9.2342.19200300.100.1.1" => "UID".to_owned(),
            "0.9.2342.19200300.100.1.25" => "DC".to_owned(),
            number => number.to_owned(),
        };
        parts.push(format!("{label}={}", escaped(value)));
    }
    parts.reverse();
    Ok(parts.join(","))
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, letter) in value.chars().enumerate() {
        let edge_space = letter == ' ' && (place == 0 || place == last);
        if edge_space
            || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (letter == '#' && place == 0)
        {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

impl fmt::Display for PrincipalRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PrincipalRule::CommonName => "common name (CN)",
            PrincipalRule::Subject => "subject",
            PrincipalRule::DnsName => "DNS alternative name",
            PrincipalRule::Email => "e-mail alternative name",
            PrincipalRule::Uri => "URI alternative name",
        })
    }
}

/// A certificate that the authority signed names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PrincipalError {
    #[error("the client's certificate has no {0}, which names the principal")]
    Missing(PrincipalRule),
    #[error(
        "the {0} of the client's certificate is empty, has control characters or has more than {NAME_BYTES_MAX} bytes"
    )]
    Unusable(PrincipalRule),
    #[error("the client's certificate claims the name ANONYMOUS, which is for peers without a certificate")]
    Reserved,
    #[error("the client's certificate cannot be read: {0}")]
    Unreadable(String),
}

/// The principals that may administer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Admins(BTreeSet<Principal>);

impl Admins {
    /// What `principal` may do.
    #[must_use]
    pub fn authority(&self, principal: &Principal) -> Authority {
        if self.0.contains(principal) { Authority::Admin } else { Authority::User }
    }
}

impl FromIterator<Principal> for Admins {
    fn from_iter<I: IntoIterator<Item = Principal>>(principals: I) -> Admins {
        Admins(principals.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        edit(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn each_rule_takes_its_part_of_the_certificate() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc");
            params.distinguished_name.push(DnType::CommonName, "alice");
            params.subject_alt_names = vec![
                SanType::Rfc822Name("alice@example.org".try_into().unwrap()),
                SanType::DnsName("alice.example.org".try_into().unwrap()),
                SanType::URI("spiffe://example.org/alice".try_into().unwrap()),
            ];
        });
        let name = |rule| Principal::of_certificate(&der, rule).unwrap().to_string();
        assert_eq!(name(PrincipalRule::CommonName), "User:alice");
        assert_eq!(name(PrincipalRule::Subject), r"User:CN=alice,O=Example\, Inc");
        assert_eq!(name(PrincipalRule::DnsName), "User:alice.example.org");
        assert_eq!(name(PrincipalRule::Email), "User:alice@example.org");
        assert_eq!(name(PrincipalRule::Uri), "User:spiffe://example.org/alice");
    }

    #[test]
    fn a_certificate_that_names_nobody_is_refused() {
        let nameless = certificate(|_| {});
        let rule = PrincipalRule::CommonName;
        assert_eq!(Principal::of_certificate(&nameless, rule), Err(PrincipalError::Missing(rule)));
        let impostor = certificate(|params| params.distinguished_name.push(DnType::CommonName, "ANONYMOUS"));
        assert_eq!(Principal::of_certificate(&impostor, rule), Err(PrincipalError::Reserved));
        let forger = certificate(|params| params.distinguished_name.push(DnType::CommonName, "a\nb"));
        assert_eq!(Principal::of_certificate(&forger, rule), Err(PrincipalError::Unusable(rule)));
        assert!(matches!(Principal::of_certificate(b"junk", rule), Err(PrincipalError::Unreadable(_))));
    }

    #[test]
    fn only_listed_principals_administer() {
        let admins: Admins = ["User:root".parse().unwrap()].into_iter().collect();
        assert_eq!(admins.authority(&Principal::named("root")), Authority::Admin);
        assert_eq!(admins.authority(&Principal::named("alice")), Authority::User);
        assert!("root".parse::<Principal>().is_err());
    }
}
