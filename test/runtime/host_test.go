package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/host/snapshot"
)

// TestUndoPutsTheMachineBack makes a change of every kind, undoes them after reopening the
// journal as a killed proa would, and compares pictures of the machine.
func TestUndoPutsTheMachineBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Others work on this machine: only lines with our names, and settings, are compared.
	id := fmt.Sprintf("proat%d", os.Getpid()%10000)
	before := snapshot.Take()
	path := filepath.Join(dir, "journal")
	j, err := host.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // also after a failure half way
		if err := j.Undo(context.Background(), host.ScopeUninstall, nil); err != nil {
			t.Error(err)
		}
	})
	note := func(c host.Change) {
		t.Helper()
		if err := j.Record(c); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(dir, "data")
	note(host.Change{Kind: host.Path, Name: folder})
	must(os.MkdirAll(filepath.Join(folder, "m"), 0o755))
	note(host.Change{Kind: host.Mounts, Name: folder})
	for range 2 {
		must(unix.Mount("none", filepath.Join(folder, "m"), "tmpfs", 0, ""))
	}
	note(host.Change{Kind: host.Link, Name: id + "*"})
	must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: id + "a"}}))
	link, err := netlink.LinkByName(id + "a")
	must(err)
	must(netlink.LinkSetUp(link))
	note(host.Change{Kind: host.Route, Name: "198.51.100.0/28 dev " + id + "a table 7777"})
	dst, err := netlink.ParseIPNet("198.51.100.0/28")
	must(err)
	must(netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: link.Attrs().Index, Table: 7777}))
	note(host.Change{Kind: host.Rule, Name: "to 198.51.100.0/28 table 7777 priority 7777"})
	rule := netlink.NewRule()
	rule.Dst, rule.Table, rule.Priority = dst, 7777, 7777
	must(netlink.RuleAdd(rule))
	note(host.Change{Kind: host.Table, Name: "inet " + id})
	conn, err := nftables.New()
	must(err)
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: id})
	must(conn.Flush())
	key := "net/ipv4/conf/lo/proxy_arp"
	old, err := os.ReadFile("/proc/sys/" + key)
	must(err)
	note(host.Change{Kind: host.Sysctl, Name: key, Before: string(old[:1])})
	must(os.WriteFile("/proc/sys/"+key, []byte("1"), 0))
	note(host.Change{Kind: host.Cgroup, Name: "/" + id})
	sleeper := exec.Command("/bin/sleep", "100")
	must(sleeper.Start())
	groups, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	must(err)
	for _, g := range groups {
		group := filepath.Join(filepath.Dir(g), id, "child")
		must(os.MkdirAll(group, 0o755))
		if filepath.Base(filepath.Dir(g)) == "pids" || filepath.Base(filepath.Dir(g)) == "freezer" {
			must(os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, sleeper.Process.Pid), 0))
		}
	}
	if freezer := "/sys/fs/cgroup/freezer/" + id + "/child/freezer.state"; exists(freezer) {
		must(os.WriteFile(freezer, []byte("FROZEN"), 0))
	}
	if len(snapshot.Diff(before, snapshot.Take())) == 0 {
		t.Error("the pictures show no change")
	}

	must(j.Close())
	j, err = host.Open(path)
	must(err)
	for range 2 {
		if err := j.Undo(t.Context(), host.ScopeUninstall, func(s string) { t.Log(s) }); err != nil {
			t.Error(err)
		}
	}
	if err := sleeper.Wait(); err == nil {
		t.Error("the process in the cgroup was not killed")
	}
	for _, line := range snapshot.Diff(before, snapshot.Take(), "process", "listen", "file", "mount", "cgroup") {
		t.Error(line)
	}
	if left, err := filepath.Glob("/sys/fs/cgroup/*/" + id); err != nil || len(left) > 0 || exists(folder) {
		t.Errorf("left: %v %v", left, err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
