#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn claims() -> Value {
    json!({"sub": "42", "role": "customer", "exp": NOW_MS / 1000 + 60})
}

fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn tokens() -> Tokens {
    let terms = Terms { issuer: Some("us".into()), audience: Some("switchboard".into()), ..Terms::default() };
    Tokens::with_secret(SECRET, terms).unwrap()
}

/// Good claims with these changed; `null` takes one away.
fn with(changes: &Value) -> Value {
    let mut all = claims();
    let (all_of, changes) = (all.as_object_mut().unwrap(), changes.as_object().unwrap());
    all_of.insert("iss".into(), "us".into());
    all_of.insert("aud".into(), "switchboard".into());
    for (claim, value) in changes {
        all_of.insert(claim.clone(), value.clone());
    }
    all_of.retain(|_, value| !value.is_null());
    all
}

#[test]
fn claims_make_a_principal() {
    let now = NOW_MS / 1000;
    let good = tokens()
        .verify(signed(&with(&json!({"groups": ["care", "shop"], "tenant": "t"}))).as_bytes(), NOW_MS);
    assert_eq!(
        good.unwrap(),
        Principal {
            user: "42".into(),
            tenant: "t".into(),
            role: Role::Customer,
            id: "42".into(),
            groups: ["care".into(), "shop".into()].into(),
            expires_at: Some(NOW_MS + 60_000),
        }
    );
    for (changes, expected) in [
        (json!({}), Ok(())),
        (json!({"aud": ["other", "switchboard"]}), Ok(())),
        (json!({"exp": now - 9}), Ok(())),
        (json!({"exp": 1_800_000_000.5}), Ok(())),
        (json!({"nbf": now + 10}), Ok(())),
        (json!({"exp": now - 10}), Err(Denied::Expired)),
        (json!({"exp": null}), Err(Denied::Malformed)),
        (json!({"exp": "tomorrow"}), Err(Denied::Malformed)),
        (json!({"nbf": now + 11}), Err(Denied::NotYetValid)),
        (json!({"iat": now + 11}), Err(Denied::NotYetValid)),
        (json!({"nbf": "now"}), Err(Denied::Malformed)),
        (json!({"iss": null}), Err(Denied::Credentials)),
        (json!({"iss": "them"}), Err(Denied::Credentials)),
        (json!({"aud": null}), Err(Denied::Credentials)),
        (json!({"aud": "them"}), Err(Denied::Credentials)),
        (json!({"role": null}), Err(Denied::Malformed)),
        (json!({"role": "root"}), Err(Denied::Malformed)),
        (json!({"role": 1}), Err(Denied::Malformed)),
        (json!({"sub": null}), Err(Denied::Malformed)),
        (json!({"sub": ""}), Err(Denied::Malformed)),
        (json!({"tenant": ""}), Err(Denied::Malformed)),
        (json!({"tenant": 7}), Err(Denied::Malformed)),
        (json!({"groups": "care"}), Err(Denied::Malformed)),
        (json!({"groups": [1]}), Err(Denied::Malformed)),
    ] {
        let found = tokens().verify(signed(&with(&changes)).as_bytes(), NOW_MS).map(drop);
        assert_eq!(found, expected, "{changes}");
    }
}

#[test]
fn signatures_are_looked_at() {
    let good = signed(&with(&json!({})));
    assert!(tokens().verify(good.as_bytes(), NOW_MS).is_ok());
    // Every character counts.
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        let other = if bytes.get(at) == Some(&b'A') { b'B' } else { b'A' };
        if let Some(byte) = bytes.get_mut(at) {
            *byte = other;
        }
        // The last character of a signature has two bits that mean nothing; a strict reader wants them zero.
        assert!(tokens().verify(&bytes, NOW_MS).is_err(), "{at}");
    }
    let other =
        encode(&Header::new(Algorithm::HS256), &with(&json!({})), &EncodingKey::from_secret(&[7; 32]))
            .unwrap();
    assert_eq!(tokens().verify(other.as_bytes(), NOW_MS), Err(Denied::Credentials));
    let longer =
        encode(&Header::new(Algorithm::HS512), &with(&json!({})), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(tokens().verify(longer.as_bytes(), NOW_MS), Err(Denied::Credentials), "another algorithm");
    let body = BASE64.encode(with(&json!({})).to_string());
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"NONE","typ":"JWT"}"#] {
        let none = format!("{}.{body}.", BASE64.encode(header));
        assert_eq!(tokens().verify(none.as_bytes(), NOW_MS), Err(Denied::Malformed));
    }
    for noise in ["", ".", "..", "a.b.c", "eyJ.eyJ.x", &"e".repeat(MAX_BYTES + 1)] {
        assert_eq!(tokens().verify(noise.as_bytes(), NOW_MS), Err(Denied::Malformed), "{noise}");
    }
}

#[test]
fn public_keys_and_sets_of_them() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let es_key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let ed_key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let public = pair.public_key_pem();
    let es = encode(&Header::new(Algorithm::ES256), &claims(), &es_key).unwrap();
    let eddsa = encode(&Header::new(Algorithm::EdDSA), &claims(), &ed_key).unwrap();
    let of_pair = Tokens::with_public_key(public.as_bytes(), Terms::default()).unwrap();
    let of_ed = Tokens::with_public_key(ed.public_key_pem().as_bytes(), Terms::default()).unwrap();
    assert!(of_pair.verify(es.as_bytes(), NOW_MS).is_ok());
    assert!(of_ed.verify(eddsa.as_bytes(), NOW_MS).is_ok());
    assert_eq!(of_ed.verify(es.as_bytes(), NOW_MS), Err(Denied::Credentials));
    // The public key taken for a secret: what is public must not sign.
    let forged =
        encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(public.as_bytes()))
            .unwrap();
    assert_eq!(of_pair.verify(forged.as_bytes(), NOW_MS), Err(Denied::Credentials));

    // x and y of the point behind the byte that says it is not compressed.
    let point = pair.public_key_raw();
    let (x, y) = point.get(1..).unwrap().split_at(32);
    let jwk = |id: &str, more: &str| {
        let (x, y) = (BASE64.encode(x), BASE64.encode(y));
        format!(r#"{{"kty":"EC","crv":"P-256","kid":"{id}","x":"{x}","y":"{y}"{more}}}"#)
    };
    let set = |keys: &[String]| {
        Tokens::with_key_set(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes(), Terms::default())
    };
    let named = |id: &str| {
        encode(&Header { kid: Some(id.into()), ..Header::new(Algorithm::ES256) }, &claims(), &es_key).unwrap()
    };
    let tokens = set(&[jwk("a", ""), jwk("b", r#","use":"sig","alg":"ES256""#)]).unwrap();
    assert!(tokens.verify(named("a").as_bytes(), NOW_MS).is_ok());
    assert!(tokens.verify(named("b").as_bytes(), NOW_MS).is_ok());
    assert!(tokens.verify(es.as_bytes(), NOW_MS).is_ok());
    assert_eq!(tokens.verify(named("c").as_bytes(), NOW_MS), Err(Denied::Credentials));
    for useless in [r#","use":"enc""#, r#","alg":"RS256""#, r#","alg":"HS256""#] {
        assert_eq!(set(&[jwk("a", useless)]).unwrap_err(), KeyError::Empty, "{useless}");
    }
    assert_eq!(set(&[]).unwrap_err(), KeyError::Empty);
}

#[test]
fn keys_that_are_none_are_refused() {
    assert_eq!(Tokens::with_secret(&[1; 31], Terms::default()).unwrap_err(), KeyError::Short(31));
    assert!(Tokens::with_public_key(b"no key", Terms::default()).unwrap_err().to_string().contains("PEM"));
    assert!(Tokens::with_key_set(b"{}", Terms::default()).unwrap_err().to_string().contains("Key Set"));
}

#[test]
fn what_could_be_a_token() {
    assert!(Tokens::looks_like_one(signed(&claims()).as_bytes()));
    for no in ["", "secret", "eyJ", "eyJ.eyJ", "eyJ a.b.c", "xyz.eyJ.abc"] {
        assert!(!Tokens::looks_like_one(no.as_bytes()), "{no}");
    }
}
