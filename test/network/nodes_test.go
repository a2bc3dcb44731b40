package network

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/proa-dev/proa/network/nodes"
)

func TestNodes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	c := nodes.Config{Bridge: "proa-tn", Subnet: netip.MustParsePrefix("172.31.9.0/24"), Table: "proa-t-nodes", RunDir: t.TempDir()}
	two, err := nodes.Create(c, "two", 2)
	must(t, err)
	three, err := nodes.Create(c, "three", 3)
	must(t, err)
	t.Cleanup(func() {
		for i, n := range []nodes.Node{two, three} {
			if err := nodes.Delete(c, n.Name, 2+i); err != nil {
				t.Error(err)
			}
		}
		if err := nodes.DeleteAll(c); err != nil {
			t.Error(err)
		}
	})
	_, err = nodes.Create(c, "two", 2) // again
	must(t, err)
	run := func(n nodes.Node, args ...string) (string, error) {
		var out bytes.Buffer
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		must(t, nodes.Exec(n, cmd))
		err := cmd.Wait()
		return strings.TrimSpace(out.String()), err
	}
	if got, err := run(two, "sh", "-c", "hostname; ls /sys/class/net; ls /sys/fs/cgroup | wc -l"); err != nil || !strings.HasPrefix(got, "two\neth0\nlo\n") || strings.HasSuffix(got, "\n0") {
		t.Errorf("inside: %q, %v", got, err)
	}
	here, err := os.Hostname()
	must(t, err)
	if here == "two" {
		t.Error("the machine's host name changed")
	}
	three2 := &pod{}
	three2.ns = openNetns(t, three.Netns)
	three2.serve(t, "three", 7000)
	two2 := &pod{ns: openNetns(t, two.Netns)}
	expect(t, two2, "tcp", "172.31.9.3:7000", "three 172.31.9.2")
	expect(t, nil, "tcp", "172.31.9.3:7000", "three 172.31.9.1")
	link, err := netlink.LinkByName(three.Link)
	must(t, err)
	must(t, netlink.LinkSetDown(link))
	if _, err := two2.ask(t, "tcp", "172.31.9.3:7000"); err == nil {
		t.Error("a cut link still carries")
	}
	must(t, netlink.LinkSetUp(link))
	eventually(t, two2, "tcp", "172.31.9.3:7000", "three 172.31.9.2")
}
