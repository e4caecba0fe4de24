# Least-privilege policy of the rotation worker on HashiCorp Vault or OpenBao. `lab/vault_setup.py` loads this very file.
#
# Names to replace with your own before `vault policy write sip-rotator deploy/vault-policy.hcl`:
#   pki_int_b   PKI mount that signs the new certificate (settings: [pki.…] mount)
#   pki_int_a   PKI mount that issued the old one; repeat its block for every mount in issuing_mounts
#   sip-trunk   role that signs (settings: [pki.…] role)
#   siptls      KV v2 mount of the key custody (settings: [keys.…] kv_mount), keys below rot/
#   sip-keys    transit key that encrypts the private keys (settings: [keys.…] transit_key)
#
# Not granted, on purpose: issue/* and sign-verbatim/* (a key made by the CA, a certificate without a role), writing
# roles/*, config/*, root/*, intermediate/*, any other role, any other KV path, the transit key itself.

# --- the mount that signs B ---
path "pki_int_b/sign/sip-trunk"  { capabilities = ["update"] }
path "pki_int_b/roles/sip-trunk" { capabilities = ["read"] }
path "pki_int_b/revoke"          { capabilities = ["update"] }
path "pki_int_b/cert/*"          { capabilities = ["read"] }
path "pki_int_b/certs"           { capabilities = ["list"] }
path "pki_int_b/certs/*"         { capabilities = ["list"] }
path "pki_int_b/issuers"         { capabilities = ["list"] }
path "pki_int_b/issuer/+"        { capabilities = ["read"] }
path "pki_int_b/issuer/+/json"   { capabilities = ["read"] }
path "pki_int_b/issuer/+/crl"    { capabilities = ["read"] }
path "pki_int_b/issuer/+/crl/*"  { capabilities = ["read"] }
path "pki_int_b/crl"             { capabilities = ["read"] }
path "pki_int_b/crl/pem"         { capabilities = ["read"] }
path "pki_int_b/crl/rotate"      { capabilities = ["read", "update"] }

# --- the mount that issued A: no signing there ---
path "pki_int_a/revoke"          { capabilities = ["update"] }
path "pki_int_a/cert/*"          { capabilities = ["read"] }
path "pki_int_a/certs"           { capabilities = ["list"] }
path "pki_int_a/certs/*"         { capabilities = ["list"] }
path "pki_int_a/issuers"         { capabilities = ["list"] }
path "pki_int_a/issuer/+"        { capabilities = ["read"] }
path "pki_int_a/issuer/+/json"   { capabilities = ["read"] }
path "pki_int_a/issuer/+/crl"    { capabilities = ["read"] }
path "pki_int_a/issuer/+/crl/*"  { capabilities = ["read"] }
path "pki_int_a/crl"             { capabilities = ["read"] }
path "pki_int_a/crl/pem"         { capabilities = ["read"] }
path "pki_int_a/crl/rotate"      { capabilities = ["read", "update"] }

# --- custody of private keys ---
path "siptls/data/rot/*"         { capabilities = ["create", "read", "update"] }
path "siptls/metadata/rot"       { capabilities = ["list"] }
path "siptls/metadata/rot/*"     { capabilities = ["read", "list", "delete"] }
path "transit/encrypt/sip-keys"  { capabilities = ["update"] }
path "transit/decrypt/sip-keys"  { capabilities = ["update"] }

# --- its own token ---
path "auth/token/lookup-self"    { capabilities = ["read"] }
path "auth/token/renew-self"     { capabilities = ["update"] }
path "auth/token/revoke-self"    { capabilities = ["update"] }
