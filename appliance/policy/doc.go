// Package policy evaluates policies of the AWS policy language: identity policies, the resource
// policies of file systems, the policies of KMS keys, the trust policies of roles and those of sessions. It is pure: it keeps nothing, asks nobody
// and reads no clock. What is asked is a [Request]; what a policy says is a [Document]; the answer
// is a [Decision].
//
// # Language
//
// A document is a JSON object with Version (2012-10-17, or 2008-10-17, which has no variables), Id
// and Statement: one statement or a list. A statement has Effect, at most one of each pair of
// Action and NotAction, Resource and NotResource, Principal and NotPrincipal, and Condition. An
// unknown or doubled member is an error: a rule that is not understood must not look as if it were
// kept.
//
//   - Actions are compared without regard to case, resources with it; both take * and ?.
//   - A principal is "*", an account (its number or its root's ARN), an ARN of a user, a role or a
//     role's session, or a service. No wildcards within.
//   - Conditions of one statement must all hold; of several values one must match, and for a
//     negated operator none may. A key that is not in the request fails a positive operator and
//     passes a negated one; IfExists passes both; Null asks just for that.
//   - ForAnyValue and ForAllValues compare sets; an absent key fails the first and passes the second.
//   - Variables, ${key} and ${key, 'default'}, stand in resources and in the values of string and
//     ARN operators; ${*}, ${?} and ${$} are those characters themselves. A value or resource whose
//     variable is not in the request matches nothing.
//
// # Decision
//
// An explicit deny wins, wherever it stands. Otherwise a request is allowed if an identity policy
// or the resource's policy allows it ([Either]: file systems), or if the resource's policy allows
// it itself or hands the decision to the identity policies by naming the account
// ([ResourceFirst]: KMS keys and roles). What nothing allows is denied. The policy of a session has to
// allow it too, but where the resource's policy names the session itself by its ARN.
//
// The source is the reference of AWS IAM's JSON policy elements and its evaluation logic.
package policy
