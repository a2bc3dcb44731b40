package metrics_test

import (
	"testing"
	"time"

	"github.com/proa-dev/proa/apiserver/metrics"
)

// What a request pays for being counted.
func BenchmarkRequest(b *testing.B) {
	r := metrics.New()
	q := metrics.Request{Verb: "GET", Group: "apps", Version: "v1", Resource: "deployments", Scope: "resource"}
	b.ReportAllocs()
	for b.Loop() {
		r.Of(q).Done(200, time.Millisecond, 0, 1000)
	}
}
