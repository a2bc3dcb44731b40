// Package conformance is the kit that runs Kubernetes' official conformance suite against a
// running cluster; proa's, or any other. The program is in run/.
//
// The import below is never linked: it keeps the suite's dependencies in go.mod, for the
// program builds the suite as a test binary.
package conformance

import _ "k8s.io/kubernetes/test/e2e"
