package plan

import "time"

// State is the state of a container as the runtime tells it.
type State int

// The states of a container.
const (
	Created State = iota
	Running
	Exited
	Unknown
)

// Sandbox is one pod sandbox in the runtime.
type Sandbox struct {
	ID        string
	Attempt   uint32
	Ready     bool
	CreatedAt time.Time
	IPs       []string // first is the primary; empty on the host network and when stopped
}

// Container is one container in the runtime.
type Container struct {
	ID         string
	SandboxID  string
	Name       string
	Attempt    uint32
	State      State
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int32
	Reason     string
	Message    string
	Image      string // as the runtime names it
	ImageRef   string // what the container status shows as imageID
	Hash       string // Hash of the spec it was made from
	LogPath    string
	User       *User
	Labels     map[string]string
	Notes      map[string]string // annotations
}

// User is the identity of a container's first process.
type User struct {
	UID, GID int64
	Groups   []int64
}

// Observed is everything that the runtime has of one pod: newest first in both lists.
type Observed struct {
	Sandboxes  []Sandbox
	Containers []Container
}

// Sandbox answers the newest sandbox, nil when there is none.
func (o *Observed) Sandbox() *Sandbox {
	if o == nil || len(o.Sandboxes) == 0 {
		return nil
	}
	return &o.Sandboxes[0]
}

// SandboxByID answers the sandbox with that id, nil when there is none.
func (o *Observed) SandboxByID(id string) *Sandbox {
	if o == nil {
		return nil
	}
	for i := range o.Sandboxes {
		if o.Sandboxes[i].ID == id {
			s := o.Sandboxes[i]
			return &s
		}
	}
	return nil
}

// Newest answers the newest container of that name, nil when there is none.
func (o *Observed) Newest(name string) *Container { return o.nth(name, 0) }

// Previous answers the one before the newest, nil when there is none.
func (o *Observed) Previous(name string) *Container { return o.nth(name, 1) }

func (o *Observed) nth(name string, n int) *Container {
	if o == nil {
		return nil
	}
	for i := range o.Containers {
		if o.Containers[i].Name == name {
			if n == 0 {
				return &o.Containers[i]
			}
			n--
		}
	}
	return nil
}

// ByID answers the container with that id, nil when there is none.
func (o *Observed) ByID(id string) *Container {
	if o == nil {
		return nil
	}
	for i := range o.Containers {
		if o.Containers[i].ID == id {
			return &o.Containers[i]
		}
	}
	return nil
}

// With answers a copy in which one container is changed.
func (o *Observed) With(id string, change func(*Container)) *Observed {
	out := &Observed{Sandboxes: o.Sandboxes, Containers: append([]Container(nil), o.Containers...)}
	if c := out.ByID(id); c != nil {
		change(c)
	}
	return out
}

// Live tells whether any container runs or may run.
func (o *Observed) Live() bool {
	if o == nil {
		return false
	}
	for i := range o.Containers {
		if s := o.Containers[i].State; s == Running || s == Unknown {
			return true
		}
	}
	return false
}
