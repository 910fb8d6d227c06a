//! lambda-issuer
