package cluster

import (
	"fmt"
	"testing"
)

func TestTaints(t *testing.T) {
	c := NodeConfig{Taints: []string{"a=b:NoSchedule", "example.com/c:NoExecute"}, CloudProvider: "external"}
	got, err := c.taints()
	if err != nil || fmt.Sprint(got) != "[{a b NoSchedule <nil>} {example.com/c  NoExecute <nil>} {node.cloudprovider.kubernetes.io/uninitialized true NoSchedule <nil>}]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "a=b", "a=b:Never", "=b:NoSchedule", "a b=c:NoSchedule", "a=b c:NoSchedule"} {
		if _, err := (&NodeConfig{Taints: []string{bad}}).taints(); err == nil {
			t.Errorf("%q is a taint", bad)
		}
	}
}
