package core

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sysctlName is how a kernel setting may be written: words parted by dots or slashes.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

const maxSysctl = 253

func validateIDs(user, group *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, invalid(path.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalid(path.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

func validatePodSecurity(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	c := s.SecurityContext
	if c == nil {
		return errs
	}
	errs = append(errs, validateIDs(c.RunAsUser, c.RunAsGroup, path)...)
	if c.FSGroup != nil {
		errs = append(errs, invalid(path.Child("fsGroup"), *c.FSGroup, validation.IsValidGroupID(*c.FSGroup))...)
	}
	for i, g := range c.SupplementalGroups {
		errs = append(errs, invalid(path.Child("supplementalGroups").Index(i), g, validation.IsValidGroupID(g))...)
	}
	names := map[string]bool{}
	for i, ctl := range c.Sysctls {
		p := path.Child("sysctls").Index(i).Child("name")
		if ctl.Name == "" {
			errs = append(errs, field.Required(p, ""))
		} else if len(ctl.Name) > maxSysctl || !sysctlName.MatchString(ctl.Name) {
			errs = append(errs, field.Invalid(p, ctl.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctlName)))
		} else if names[ctl.Name] {
			errs = append(errs, field.Duplicate(p, ctl.Name))
		}
		names[ctl.Name] = true
	}
	if c.FSGroupChangePolicy != nil {
		errs = append(errs, oneOf(*c.FSGroupChangePolicy, path.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	if c.SupplementalGroupsPolicy != nil {
		errs = append(errs, oneOf(*c.SupplementalGroupsPolicy, path.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	return append(errs, validateProfiles(c.SeccompProfile, c.AppArmorProfile, path)...)
}

func validateProfiles(seccomp *corev1.SeccompProfile, armor *corev1.AppArmorProfile, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s := seccomp; s != nil {
		p := path.Child("seccompProfile")
		errs = append(errs, given(s.Type, p.Child("type"), corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
		switch local := s.Type == corev1.SeccompProfileTypeLocalhost; {
		case local && (s.LocalhostProfile == nil || *s.LocalhostProfile == ""):
			errs = append(errs, field.Required(p.Child("localhostProfile"), "must be set when seccomp type is Localhost"))
		case local:
			errs = append(errs, localPath(*s.LocalhostProfile, p.Child("localhostProfile"))...)
		case s.LocalhostProfile != nil:
			errs = append(errs, field.Invalid(p.Child("localhostProfile"), s, "can only be set when seccomp type is Localhost"))
		}
	}
	if a := armor; a != nil {
		p := path.Child("appArmorProfile")
		errs = append(errs, given(a.Type, p.Child("type"), corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)...)
		switch local := a.Type == corev1.AppArmorProfileTypeLocalhost; {
		case local && (a.LocalhostProfile == nil || strings.TrimSpace(*a.LocalhostProfile) == ""):
			errs = append(errs, field.Required(p.Child("localhostProfile"), "must be set when AppArmor type is Localhost"))
		case !local && a.LocalhostProfile != nil:
			errs = append(errs, field.Invalid(p.Child("localhostProfile"), a.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
		}
	}
	return errs
}

func validateSecurityContext(c *corev1.SecurityContext, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := validateIDs(c.RunAsUser, c.RunAsGroup, path)
	if c.ProcMount != nil {
		errs = append(errs, oneOf(*c.ProcMount, path.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if *c.ProcMount == corev1.UnmaskedProcMount && (s.HostUsers == nil || *s.HostUsers) {
			errs = append(errs, field.Invalid(path.Child("procMount"), *c.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateProfiles(c.SeccompProfile, c.AppArmorProfile, path)...)
	if e := c.AllowPrivilegeEscalation; e != nil && !*e {
		if c.Privileged != nil && *c.Privileged {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if c.Capabilities != nil {
			for _, added := range c.Capabilities.Add {
				if added == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	return errs
}
