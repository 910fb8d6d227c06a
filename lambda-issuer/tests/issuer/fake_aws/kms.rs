//! KMS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, State, fault};

pub(super) fn answer(state: &mut State, operation: &str, input: &Value) -> Answer {
    if state.kms_down {
        return (500, json!({"__type": "KMSInternalException"}).to_string());
    }
    assert_eq!(input["KeyId"], "alias/rolecall");
    let context = input["EncryptionContext"].to_string();
    match operation {
        "GenerateDataKey" => {
            state.generated_keys += 1;
            let key = STANDARD.encode([u8::try_from(state.generated_keys).unwrap(); 32]);
            let wrapped = STANDARD.encode(format!("{context}|{key}"));
            (200, json!({"KeyId": "k", "Plaintext": key, "CiphertextBlob": wrapped}).to_string())
        }
        "Decrypt" => {
            state.decrypted_keys += 1;
            let wrapped = STANDARD.decode(input["CiphertextBlob"].as_str().unwrap()).unwrap();
            match String::from_utf8(wrapped).unwrap().split_once('|') {
                Some((made_for, key)) if made_for == context => {
                    (200, json!({"KeyId": "k", "Plaintext": key}).to_string())
                }
                _ => fault("InvalidCiphertextException"),
            }
        }
        other => panic!("unknown operation {other}"),
    }
}
