package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// always are upstream's plugins whose work is done whatever is asked for, by a step that does
// more than one of them or by the kinds themselves.
var always = []string{"AlwaysAdmit", "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction", "NamespaceExists"}

// absent are upstream's plugins that are not here.
var absent = []string{
	"AlwaysDeny", "EventRateLimit", "ImagePolicyWebhook", "NamespaceAutoProvision", "OwnerReferencesPermissionEnforcement",
	"PodGroupProtection", "PodTolerationRestriction",
}

// own are steps that no setting names: they are parts of other things.
var own = []string{"CertificateRequester", "PodCertificateSigning", "PolicyParameters", "RBACEscalation"}

// Switched is the chain with the plugins of kube-apiserver's flags switched on and off, by
// their names there; errors name the flag. Steps that are Off are left out unless enabled.
func (c Chain) Switched(enable, disable []string) (Chain, error) {
	steps := map[string]bool{}
	for _, s := range c {
		if !slices.Contains(own, s.Name) && !slices.Contains(always, s.Name) {
			steps[s.Name] = true
		}
	}
	for _, name := range disable {
		switch {
		case slices.Contains(enable, name):
			return nil, fmt.Errorf("%s is in both --enable-admission-plugins and --disable-admission-plugins", name)
		case slices.Contains(always, name):
			return nil, fmt.Errorf("--disable-admission-plugins: %s cannot be switched off", name)
		case !steps[name] && !slices.Contains(absent, name):
			return nil, unknown("--disable-admission-plugins", name, steps)
		}
	}
	for _, name := range enable {
		switch {
		case slices.Contains(absent, name):
			return nil, fmt.Errorf("--enable-admission-plugins: there is no %s here", name)
		case !steps[name] && !slices.Contains(always, name):
			return nil, unknown("--enable-admission-plugins", name, steps)
		}
	}
	return slices.DeleteFunc(slices.Clone(c), func(s Step) bool {
		return s.Off && !slices.Contains(enable, s.Name) || steps[s.Name] && slices.Contains(disable, s.Name)
	}), nil
}

func unknown(flag, name string, steps map[string]bool) error {
	return fmt.Errorf("%s: plugin %q is unknown; those that can be switched are %s", flag, name, strings.Join(slices.Sorted(maps.Keys(steps)), ", "))
}
