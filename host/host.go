// Package host is the only way in which proa changes the machine it runs on outside its
// own folders: each change is recorded under a name of ours, fsynced, before it is
// made, so that down and uninstall put the machine back exactly, also after kill -9.
//
// The one idea: a journal of changes that can each be undone without knowing whether
// they were made; undoing is idempotent and goes backwards.
//
// Used by network, proxy, kubelet, runtime and cluster; the undoing by cmd/proa.
package host

// Recorder notes a change before it is made. *Journal implements it; tests may pass Discard.
type Recorder interface {
	// Record is idempotent: the same change again costs nothing.
	Record(Change) error
}

// ChangeKind says how a Change is undone.
type ChangeKind string

// The kinds of change. Name is what the kernel calls the thing; Netns is empty for the
// machine's own network namespace, else the path of another.
const (
	Link    ChangeKind = "link"     // network link; undone by deleting it
	Route   ChangeKind = "route"    // destination prefix "via" gateway "dev" link, as ip route prints it; undone by deleting it
	Rule    ChangeKind = "rule"     // policy routing rule
	Table   ChangeKind = "nftables" // "<family> <table>"; undone by deleting the table
	Netns   ChangeKind = "netns"    // path of a bind-mounted network namespace; unmounted and removed
	Mounts  ChangeKind = "mounts"   // folder below which everything is unmounted
	Cgroup  ChangeKind = "cgroup"   // cgroup path below every hierarchy ("/proa/default"); processes in it are killed, then it is removed with its children
	Sysctl  ChangeKind = "sysctl"   // key; Before is written back
	Path    ChangeKind = "path"     // file or folder tree of ours; removed on uninstall, or on down when Volatile
	Process ChangeKind = "process"  // executable path prefix (below our data folder): processes running it are ended
	// MountOption of a file system that is the machine's; Name is the mount point, Before the
	// option that is switched off.
	MountOption ChangeKind = "mount option"
	Module      ChangeKind = "module" // kernel module loaded; left loaded, listed only
)

// Change is one change to the machine.
type Change struct {
	Kind     ChangeKind `json:"kind"`
	Name     string     `json:"name"`
	Netns    string     `json:"netns,omitempty"`
	Before   string     `json:"before,omitempty"`
	Volatile bool       `json:"volatile,omitempty"` // of a Path: goes with down, not only with uninstall
}

// Discard records nothing: for tests that clean up themselves.
var Discard Recorder = discard{}

type discard struct{}

func (discard) Record(Change) error { return nil }
