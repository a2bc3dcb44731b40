package report

import (
	"io"
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	const log = "Running Suite\n\nWill run 7 of 3206 specs\nRunning in parallel\n••\n" +
		"------------------------------\n• [FAILED] [4.077 seconds]\n[sig-node] Pods [It] should run\nfile.go:97\n  • no dot\n" +
		"------------------------------\n•••\n• [12.000 seconds]\n[sig-apps] slow\n\nRan 7 of 3206 Specs in 3 seconds\n"
	var out strings.Builder
	p := Progress{Out: &out}
	if err := p.Follow(strings.NewReader(log)); err != nil {
		t.Fatal(err)
	}
	if p.total != 7 || p.done != 7 || p.failed != 1 {
		t.Errorf("total %d, done %d, failed %d; want 7, 7, 1", p.total, p.done, p.failed)
	}
	if !strings.Contains(out.String(), "3 done, 1 failed, 4 left") || !strings.Contains(out.String(), "[FAILED] [sig-node] Pods [It] should run") {
		t.Errorf("the failure is not told:\n%s", out.String())
	}
}

const ginkgos = `[{"SpecReports":[
{"ContainerHierarchyTexts":["[sig-node] Pods"],"LeafNodeType":"It","LeafNodeText":"should run [Conformance]","State":"passed","RunTime":2000000000},
{"ContainerHierarchyTexts":["[sig-node] Pods"],"LeafNodeType":"It","LeafNodeText":"should end [Conformance]","State":"failed","RunTime":1000000000,
 "Failure":{"Message":"Expected\n    <int>: 1\nto equal\n    <int>: 2"}},
{"ContainerHierarchyTexts":["[sig-apps] Job"],"LeafNodeType":"It","LeafNodeText":"was left out","State":"skipped"},
{"LeafNodeType":"SynchronizedBeforeSuite","State":"passed"},
{"LeafNodeType":"SynchronizedBeforeSuite","State":"timedout"}]}]`

func TestTable(t *testing.T) {
	all, err := Read(strings.NewReader(ginkgos))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Table(&out, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| node | 2 | 1 | 1 | 3s |\n", "| suite | 1 | 0 | 1 | 0s |\n", "| **all** | 3 | 1 | 2 | 3s |\n",
		"- [sig-node] Pods should end [Conformance]\n  `Expected <int>: 1 to equal <int>: 2`\n", "- SynchronizedBeforeSuite\n  `timedout`\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the table:\n%s", want, out.String())
		}
	}
}

// Whatever a suite writes, every line is read, and no more specs fail than have ended.
func FuzzProgress(f *testing.F) {
	f.Add("Will run 7 of 3206 specs\n••\n• [FAILED] [4.077 seconds]\n[sig-node] Pods\n•••\n• [12.000 seconds]\n")
	f.Add("•• [FAILED]")
	f.Fuzz(func(t *testing.T, log string) {
		in := strings.NewReader(log)
		p := Progress{Out: io.Discard}
		if err := p.Follow(in); err != nil || in.Len() > 0 || p.failed > p.done {
			t.Errorf("%v, %d bytes left, %d of %d failed", err, in.Len(), p.failed, p.done)
		}
	})
}
