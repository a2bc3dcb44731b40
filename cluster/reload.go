package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/access/oidc"
	"github.com/proa-dev/proa/access/remote"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/reload"
)

// keysWait is how long services that keep keys may take to answer after a change.
const keysWait = 30 * time.Second

// following has load called whenever a configuration file changes; an empty path is none.
type following func(name, path string, load func(context.Context) error) error

// follow is the following of this server: the files are followed once it runs.
func (c *controlPlane) follow(name, path string, load func(context.Context) error) error {
	if path == "" {
		return nil
	}
	f, err := reload.New(reload.Config{Name: name, Path: path, Load: load, Log: c.log.With("part", "configuration")})
	if err != nil {
		return err
	}
	c.files = append(c.files, f)
	return nil
}

// followFiles follows those that are not followed by who reads them.
func (c *controlPlane) followFiles() error {
	keys := c.cfg.EncryptionConfig
	if c.cfg.KeepEncryption {
		keys = ""
	}
	err := c.follow("encryption", keys, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, keysWait)
		defer cancel()
		if err := c.keys.Reload(ctx, keys); err != nil {
			return err
		}
		c.store.Reseal()
		return nil
	})
	if c.audit == nil {
		return err
	}
	return errors.Join(err, c.follow("audit_policy", c.cfg.Audit.Policy, func(context.Context) error {
		p, err := audit.LoadPolicy(c.cfg.Audit.Policy)
		if err == nil {
			c.audit.SetPolicy(p)
		}
		return err
	}))
}

// startFiles follows the files until ctx ends.
func (c *controlPlane) startFiles(ctx context.Context, group *Group) error {
	for _, f := range c.files {
		if err := group.Start(ctx, Part{Name: "configuration file", Run: f.Run}); err != nil {
			return err
		}
	}
	return nil
}

// issuers accept the tokens of those in a configuration, which may change.
type issuers struct {
	given oidc.Config
	now   atomic.Pointer[oidc.Authenticator]
}

func newIssuers(given oidc.Config) (*issuers, error) {
	o, err := oidc.New(given)
	if err != nil {
		return nil, fmt.Errorf("authentication configuration: %w", err)
	}
	i := &issuers{given: given}
	i.now.Store(o)
	return i, nil
}

// AuthenticateToken implements access.TokenAuthenticator.
func (i *issuers) AuthenticateToken(ctx context.Context, token string) (*api.User, error) {
	return i.now.Load().AuthenticateToken(ctx, token)
}

// reload takes in a changed file. Whether anonymous requests are let in is decided at the
// start, as in Kubernetes.
func (i *issuers) reload(path string) error {
	c, err := oidc.Load(path)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(c.Anonymous, i.given.Issuers.Anonymous) {
		return field.Forbidden(field.NewPath("anonymous"), "changed from initial configuration file")
	}
	next := i.given
	next.Issuers, next.Former = c, i.now.Load()
	o, err := oidc.New(next)
	if err != nil {
		return fmt.Errorf("authentication configuration: %w", err)
	}
	i.now.Store(o)
	return nil
}

// deciders are the authorizers of a configuration, which may change.
type deciders struct {
	path   string
	reader api.Reader
	rbac   *access.RBAC
	types  []string // of those that are not webhooks, as at the start
	now    atomic.Pointer[access.Authorizers]
}

// Authorize implements access.Authorizer.
func (d *deciders) Authorize(ctx context.Context, a *access.Attributes) (access.Decision, string) {
	return d.now.Load().Authorize(ctx, a)
}

// load reads the file, at the start and after a change; only webhooks may change, as in
// Kubernetes.
func (d *deciders) load() error {
	c := &apiserverv1.AuthorizationConfiguration{}
	if err := oidc.Decode(d.path, "AuthorizationConfiguration", c); err != nil {
		return err
	}
	chain, err := remote.Chain(c, access.Builtin(d.reader, d.rbac), time.Now)
	if err != nil {
		return fmt.Errorf("authorization configuration: %w", err)
	}
	var types []string
	for _, z := range c.Authorizers {
		if z.Type != "Webhook" {
			types = append(types, z.Type)
		}
	}
	slices.Sort(types)
	if d.now.Load() == nil {
		d.types = types
	}
	if !slices.Equal(d.types, types) {
		return fmt.Errorf("authorization configuration: authorizers other than webhooks are added and removed by a restart only: there were %q, there are %q", d.types, types)
	}
	all := access.NewAuthorizer(d.reader, d.rbac, chain...)
	d.now.Store(&all)
	return nil
}
