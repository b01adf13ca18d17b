#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// "secret", at the least cost there is.
fn hash() -> String {
    use argon2::password_hash::SaltString;
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
    let salt = SaltString::from_b64("c29tZXNhbHRzYWx0").unwrap();
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    argon.hash_password(b"secret", &salt).unwrap().to_string()
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let principal = Principal {
        user: "a \"quoted\" name\\".into(),
        tenant: "t".into(),
        role: Role::Agent,
        id: "客服".into(),
        groups: ["care".into(), "x\ny".into()].into(),
        expires_at: None,
    };
    let users = parse_users(&user_entry(&principal, &hash()), "users.toml").unwrap();
    assert_eq!(users.verify(&principal.user, b"secret").unwrap(), principal);
}

#[test]
fn wrong_users_are_told_line_by_line() {
    let good = hash();
    let text = format!(
        "[[user]]\nname = \"a\"\npassword = \"{good}\"\nrole = \"king\"\n[[user]]\nname = \"b\"\nrole = \"agent\"\n\
         [[user]]\nname = \"c\"\npassword = \"plain\"\nrole = \"agent\"\n[[user]]\nname = \"d\"\npassword = \"{good}\"\n\
         role = \"agent\"\n[[user]]\nname = \"d\"\npassword = \"{good}\"\nrole = \"agent\"\nadmin = true\n"
    );
    let problems = parse_users(&text, "users.toml").unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "users.toml:4:8  user.role: \"king\" is no role; one of customer, agent, bot, supervisor, operator, device",
            "users.toml:5:1  user.password: missing; every user has a name, a password's hash and a role",
            "users.toml:10:12  user.password: no Argon2 hash; what `switchboard passwd` prints",
            "users.toml:17:8  user.name: \"d\" is there twice; a name for each user",
            "users.toml:20:1  user.admin: unknown key; one of name, password, role, tenant, id, groups",
        ]
    );
}
