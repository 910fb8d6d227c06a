//! Paths that mean something else to a reader that decodes, folds or resolves them.

/// None of these is answered with anything but `not_found`.
pub(crate) const TRICKS: [&str; 34] = [
    "/latest/user-data",
    "/latest/user-data/",
    "/LATEST/user-data",
    "/latest/User-Data",
    "//latest/user-data",
    "/latest//user-data",
    "/latest/%75ser-data",
    "/latest/%2575ser-data",
    "/latest%2fuser-data",
    "/latest/user-data%00",
    "/latest/user-data;a=b",
    "/latest/user-data%3f",
    "/latest/./user-data",
    "/latest/../latest/user-data",
    "/latest/meta-data/../user-data",
    "/latest/meta-data/%2e%2e/user-data",
    "/latest/meta-data/%252e%252e/user-data",
    "/latest/meta-data/..%2fuser-data",
    "/latest/meta-data/..;/user-data",
    "/latest/meta-data\\..\\user-data",
    "/latest/meta-data/placement/region/../../../user-data",
    "/latest/meta-data/%c0%ae%c0%ae/user-data",
    "/latest/meta-data/%e0%80%ae%e0%80%ae/user-data",
    "/latest/meta-data/iam/../../user-data",
    "/latest/meta-data/%69am/security-credentials/",
    "/latest/meta-data/IAM/security-credentials/",
    "/latest/meta-data/iam/security%2dcredentials/",
    "/latest/meta-data/iam/security-credentials-extended/",
    "/latest/meta-data/iam/security-credentials/%2e%2e%00",
    "/latest/meta-data/iam/security-credentials/%c0%af",
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    "/latest/dynamic/instance-identity/signature",
    "/latest/dynamic/instance-identity/document/../pkcs7",
    "/latest/dynamic/instance-identity/document/",
];

/// Other spellings of a role's name: none is a role that the pod has.
pub(crate) const OTHER_ROLES: [&str; 6] = [
    "rolecall-node",
    "rolecall-issuer",
    "%72olecall-node",
    "..%2frolecall-node",
    "../rolecall-node",
    "..//rolecall-node",
];
