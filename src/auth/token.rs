//! Signed tokens: JWT (RFC 7519), as MQTT password.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{Denied, Principal, Role};

/// Longer ones are not looked at.
pub const MAX_BYTES: usize = 8 * 1024;

/// What HMAC keys have at least [RFC 7518 3.2].
const LEAST_SECRET: usize = 32;

/// A key, or the file of it, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret that could be guessed.
    #[error("a secret of {0} bytes; at least {LEAST_SECRET}")]
    Short(usize),
    /// Not what it should be.
    #[error("no {0}")]
    Syntax(&'static str),
    /// A set without a key that could be used.
    #[error("no key in it that signs with RS256, ES256 or EdDSA")]
    Empty,
}

/// What tokens are signed with.
struct Key {
    id: Option<String>,
    verifies: DecodingKey,
    /// The one algorithm that it is for: a public key must not be taken for a secret.
    algorithm: Algorithm,
}

/// What tokens say, and what they have to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `iss`, if it is looked at.
    pub issuer: Option<String>,
    /// What `aud` has to name, if it is looked at.
    pub audience: Option<String>,
    /// How far the clocks may be apart, in seconds.
    pub leeway_s: u64,
    /// The claims that have role, tenant, id and groups.
    pub role_claim: String,
    /// As above.
    pub tenant_claim: String,
    /// As above.
    pub id_claim: String,
    /// As above.
    pub groups_claim: String,
    /// For tokens that name no role; `None`: they are refused.
    pub role: Option<Role>,
    /// For tokens that name no tenant; `None`: they are refused.
    pub tenant: Option<String>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            leeway_s: 10,
            role_claim: "role".into(),
            tenant_claim: "tenant".into(),
            id_claim: "sub".into(),
            groups_claim: "groups".into(),
            role: None,
            tenant: Some("main".into()),
        }
    }
}

/// Reads tokens.
pub struct Tokens {
    keys: Vec<Key>,
    terms: Terms,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

impl Tokens {
    /// Signed with a secret, HS256.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn with_secret(secret: &[u8], terms: Terms) -> Result<Self, KeyError> {
        if secret.len() < LEAST_SECRET {
            return Err(KeyError::Short(secret.len()));
        }
        let key = Key { id: None, verifies: DecodingKey::from_secret(secret), algorithm: Algorithm::HS256 };
        Ok(Self { keys: vec![key], terms })
    }

    /// Signed with the private key of this public one, PEM: RS256, ES256 or `EdDSA`, as the key says.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn with_public_key(pem: &[u8], terms: Terms) -> Result<Self, KeyError> {
        let rsa = || Some((DecodingKey::from_rsa_pem(pem).ok()?, Algorithm::RS256));
        let ec = || Some((DecodingKey::from_ec_pem(pem).ok()?, Algorithm::ES256));
        let ed = || Some((DecodingKey::from_ed_pem(pem).ok()?, Algorithm::EdDSA));
        let (key, algorithm) = rsa().or_else(ec).or_else(ed).ok_or(KeyError::Syntax("public key in PEM"))?;
        Ok(Self { keys: vec![Key { id: None, verifies: key, algorithm }], terms })
    }

    /// Signed with one of a set of keys (RFC 7517), which a token names. Keys for anything else are passed over.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn with_key_set(json: &[u8], terms: Terms) -> Result<Self, KeyError> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| KeyError::Syntax("JSON Web Key Set"))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(key_of).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self { keys, terms }) }
    }

    /// Whether a password could be a token at all.
    pub fn looks_like_one(password: &[u8]) -> bool {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        password.starts_with(b"eyJ")
            && password.iter().all(allowed)
            && password.split(|byte| *byte == b'.').count() == 3
    }

    /// Who a token is of, at `now_ms` since the epoch.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn verify(&self, token: &[u8], now_ms: u64) -> Result<Principal, Denied> {
        if token.len() > MAX_BYTES {
            return Err(Denied::Malformed);
        }
        let header = decode_header(token).map_err(|_| Denied::Malformed)?;
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.id.is_none() || header.kid == key.id;
            named && key.algorithm == header.alg
        };
        let mut claims = None;
        for key in self.keys.iter().filter(fits) {
            let mut validation = Validation::new(key.algorithm);
            // By the time that is given, below.
            (validation.validate_exp, validation.validate_nbf) = (false, false);
            validation.set_required_spec_claims::<&str>(&[]);
            validation.validate_aud = self.terms.audience.is_some();
            if let Some(audience) = &self.terms.audience {
                validation.set_audience(&[audience]);
                validation.set_required_spec_claims(&["aud"]);
            }
            if let Ok(read) = decode::<Map<String, Value>>(token, &key.verifies, &validation) {
                claims = Some(read.claims);
                break;
            }
        }
        self.principal(&claims.ok_or(Denied::Credentials)?, now_ms)
    }

    fn principal(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<Principal, Denied> {
        let terms = &self.terms;
        let now_s = now_ms / 1000;
        // A token that never ends cannot be taken back.
        let ends = claims.get("exp").and_then(seconds).ok_or(Denied::Malformed)?;
        if now_s >= ends.saturating_add(terms.leeway_s) {
            return Err(Denied::Expired);
        }
        for claim in ["nbf", "iat"] {
            let begins = claims.get(claim).map(|at| seconds(at).ok_or(Denied::Malformed)).transpose()?;
            if begins.is_some_and(|at| at > now_s.saturating_add(terms.leeway_s)) {
                return Err(Denied::NotYetValid);
            }
        }
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if terms.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
            return Err(Denied::Credentials);
        }
        let role = match claims.get(&terms.role_claim) {
            None => terms.role,
            Some(role) => role.as_str().and_then(|role| role.parse().ok()),
        };
        let tenant = match claims.get(&terms.tenant_claim) {
            None => terms.tenant.as_deref(),
            Some(tenant) => tenant.as_str(),
        };
        let id = text(&terms.id_claim).filter(|id| !id.is_empty());
        let (Some(role), Some(tenant), Some(id)) = (role, tenant.filter(|tenant| !tenant.is_empty()), id)
        else {
            return Err(Denied::Malformed);
        };
        let groups = match claims.get(&terms.groups_claim) {
            None => Box::default(),
            Some(groups) => groups
                .as_array()
                .and_then(|groups| groups.iter().map(|group| Some(group.as_str()?.into())).collect())
                .ok_or(Denied::Malformed)?,
        };
        Ok(Principal {
            user: text("sub").unwrap_or(id).into(),
            tenant: tenant.into(),
            role,
            id: id.into(),
            groups,
            expires_at: Some(ends.saturating_mul(1000)),
        })
    }
}

/// Whole seconds since the epoch; a fraction is left out.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_sign_loss, reason = "a time before the epoch counts as the epoch")]
    let whole = |seconds: f64| (seconds.is_finite()).then_some(seconds.max(0.0) as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// A key of a set that signs, with the algorithm that it is for.
fn key_of(jwk: &jsonwebtoken::jwk::Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, KeyAlgorithm, PublicKeyUse};
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        _ => return None,
    };
    let said = match jwk.common.key_algorithm {
        None => algorithm,
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
        Some(_) => return None,
    };
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| said == algorithm)?;
    Some(Key { id: jwk.common.key_id.clone(), verifies: key, algorithm })
}

#[cfg(test)]
mod tests;
