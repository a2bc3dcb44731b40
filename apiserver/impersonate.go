package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// Who acts as another needs a right to do so. There are several such rights (KEP-5284): all but the
// last are bound to what is done meanwhile (the verb impersonate-on:<guise>:<verb> on the request's own
// resource) besides to whom one is (impersonate:<guise>); the last, impersonate alone, is the old one.
// They are tried in this order, but the one by which a user came through the last time is first; the
// first refusal is told.
var guises = []guise{
	{"associated-node", func(wanted, who *api.User) bool {
		node, ok := nodeOf(wanted)
		at := who.Extra["authentication.kubernetes.io/node-name"]
		_, _, account := access.SplitServiceAccount(who.Name)
		return ok && account && len(at) == 1 && at[0] == node
	}},
	{"arbitrary-node", func(wanted, _ *api.User) bool {
		_, ok := nodeOf(wanted)
		return ok
	}},
	{"serviceaccount", func(wanted, _ *api.User) bool {
		_, _, ok := access.SplitServiceAccount(wanted.Name)
		return ok && nameAlone(wanted)
	}},
	{"user-info", func(wanted, _ *api.User) bool {
		_, _, account := access.SplitServiceAccount(wanted.Name)
		_, node := nodeName(wanted.Name)
		return !account && !node
	}},
	{"", func(_, _ *api.User) bool { return true }},
}

// guise is one way of being another.
type guise struct {
	name string // "": the old way
	fits func(wanted, who *api.User) bool
}

func nameAlone(u *api.User) bool { return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0 }

func nodeOf(u *api.User) (string, bool) {
	name, ok := nodeName(u.Name)
	return name, ok && nameAlone(u)
}

func nodeName(user string) (string, bool) {
	name, ok := strings.CutPrefix(user, "system:node:")
	return name, ok && len(apivalidation.NameIsDNSSubdomain(name, false)) == 0
}

// impersonate changes the identity as the Impersonate-* headers ask, if the user may.
func (r *request) impersonate() error {
	wanted, err := impersonated(r.r.Header)
	if wanted == nil || err != nil {
		return err
	}
	var first error
	last := r.s.disguised.last(r.user.Name)
	for n := -1; n < len(guises); n++ {
		i := n
		if n == -1 {
			i = last
		} else if n == last {
			continue
		}
		if i < 0 || !guises[i].fits(wanted, r.user) {
			continue
		}
		err := r.disguise(guises[i].name, wanted)
		if err == nil {
			r.s.disguised.remember(r.user.Name, i)
			r.become(wanted, guises[i].name)
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// impersonated reads the headers; nil: there are none.
func impersonated(h http.Header) (*api.User, error) {
	u := &api.User{Name: h.Get("Impersonate-User"), UID: h.Get("Impersonate-Uid"), Groups: h.Values("Impersonate-Group")}
	if extra := impersonatedExtra(h); len(extra) > 0 {
		u.Extra = extra
	}
	switch {
	case u.Name == "" && nameAlone(u):
		return nil, nil
	case u.Name == "":
		return nil, apierrors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:\"\", UID:%q, Groups:%#v, Extra:%#v} without impersonating a user name", u.UID, u.Groups, u.Extra))
	}
	return u, nil
}

// become takes the identity on. Groups of nodes and service accounts are known if none are given.
func (r *request) become(wanted *api.User, guise string) {
	groups := slices.Clone(wanted.Groups)
	if ns, _, ok := access.SplitServiceAccount(wanted.Name); ok && len(groups) == 0 {
		groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + ns}
	}
	if strings.HasSuffix(guise, "-node") {
		groups = []string{"system:nodes"}
	}
	r.user = &api.User{Name: wanted.Name, UID: wanted.UID, Groups: withEveryone(wanted.Name, groups), Extra: wanted.Extra}
	r.record.Impersonated(r.user)
	for key := range r.r.Header {
		if strings.HasPrefix(strings.ToLower(key), "impersonate-") {
			r.r.Header.Del(key)
		}
	}
}

// disguise says whether the user may be another in a guise.
func (r *request) disguise(guise string, wanted *api.User) error {
	who, verb := r.user, "impersonate"
	if guise == "associated-node" { // whichever node it is: the rule is about the account
		who = &api.User{Name: who.Name, UID: who.UID, Groups: who.Groups, Extra: map[string][]string{
			"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(who.Extra)),
		}}
	}
	if guise != "" {
		verb += ":" + guise
		on := r.attributes()
		on.User, on.Verb = who, "impersonate-on:"+guise+":"+on.Verb
		if err := r.may(on); err != nil {
			return err
		}
	}
	for _, a := range asked(guise, wanted) {
		a.User, a.Verb, a.Resource, a.Version = who, verb, true, "v1"
		if err := unsuited(guise, wanted, &a); err != nil {
			return err
		}
		if err := r.may(&a); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) may(a *access.Attributes) error {
	if d, reason := r.s.cfg.Authorizer.Authorize(r.r.Context(), a); d != access.Allow {
		return forbidden(a, reason)
	}
	return nil
}

// asked lists what of a user somebody must be allowed to be: name, UID, groups, extra.
func asked(guise string, wanted *api.User) []access.Attributes {
	group := "authentication.k8s.io"
	if guise == "" {
		group = ""
	}
	name := access.Attributes{Group: group, Plural: "users", Name: wanted.Name}
	if ns, account, ok := access.SplitServiceAccount(wanted.Name); ok {
		name = access.Attributes{Group: group, Plural: "serviceaccounts", Namespace: ns, Name: account}
	}
	if strings.HasSuffix(guise, "-node") {
		name.Plural = "nodes"
		if name.Name, _ = nodeName(wanted.Name); guise == "associated-node" {
			name.Name = "*"
		}
	}
	all := []access.Attributes{name}
	if wanted.UID != "" {
		all = append(all, access.Attributes{Group: "authentication.k8s.io", Plural: "uids", Name: wanted.UID})
	}
	for _, g := range wanted.Groups {
		all = append(all, access.Attributes{Group: group, Plural: "groups", Name: g})
	}
	for _, k := range slices.Sorted(maps.Keys(wanted.Extra)) {
		for _, v := range wanted.Extra[k] {
			all = append(all, access.Attributes{Group: "authentication.k8s.io", Plural: "userextras", Subresource: k, Name: v})
		}
	}
	return all
}

// unsuited refuses what only the old way allows, whatever the rights are.
func unsuited(guise string, wanted *api.User, a *access.Attributes) error {
	switch {
	case guise == "":
		return nil
	case a.Plural == "groups" && slices.Contains(wanted.Groups, ""):
		return forbidden(a, "impersonating the empty string group is not allowed")
	case a.Plural == "groups" && slices.Contains(wanted.Groups, "system:masters"):
		a.Name = "system:masters"
		return forbidden(a, "impersonating the system:masters group is not allowed")
	case a.Plural != "userextras":
		return nil
	}
	extras, empty := *a, a.Name == ""
	extras.Subresource, extras.Name = "", ""
	if errs := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), a.Subresource); len(errs) > 0 {
		return forbidden(&extras, "impersonating an invalid key in extra is not allowed: "+errs.ToAggregate().Error())
	}
	if empty {
		return forbidden(&extras, "impersonating the empty string value in extra is not allowed")
	}
	return nil
}

// disguises remember in which guise users came through the last time. Forgetting costs a question more.
type disguises struct {
	mu sync.Mutex
	of map[string]int
}

const mostDisguises = 1000

func (d *disguises) last(user string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i, ok := d.of[user]; ok {
		return i
	}
	return -1
}

func (d *disguises) remember(user string, i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil || len(d.of) >= mostDisguises {
		d.of = map[string]int{}
	}
	d.of[user] = i
}

// impersonatedExtra reads Impersonate-Extra-* headers; their keys are escaped as in a URL,
// for what a header's name cannot hold.
func impersonatedExtra(h http.Header) map[string][]string {
	extra := map[string][]string{}
	for header, values := range h {
		key, ok := strings.CutPrefix(strings.ToLower(header), "impersonate-extra-")
		if !ok {
			continue
		}
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		extra[key] = append(extra[key], values...)
	}
	return extra
}

// withEveryone adds the group that all users are in, unless the impersonator said which.
func withEveryone(user string, groups []string) []string {
	const known, unknown = "system:authenticated", "system:unauthenticated"
	switch {
	case slices.Contains(groups, known), slices.Contains(groups, unknown):
		return groups
	case user == access.Anonymous:
		return append(groups, unknown)
	}
	return append(groups, known)
}
