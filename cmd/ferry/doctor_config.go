package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ferry/internal/config"
	"ferry/internal/doctor"
)

// configChecks look at the variables. wrong is what is wrong with them.
func configChecks(cfg *config.Config, wrong error) []doctor.Check {
	return []doctor.Check{
		{Code: "configuration", Severity: doctor.Error, Find: always(func() []doctor.Finding { return mistakes(wrong) })},
		{Code: "configuration-warning", Severity: doctor.Warning, Find: always(func() []doctor.Finding { return warnings(cfg) })},
		{Code: "cors-any-origin", Severity: doctor.Warning, Find: always(func() []doctor.Finding { return anyOrigin(cfg) })},
		{Code: "trusted-header-wide", Severity: doctor.Error, Find: always(func() []doctor.Finding {
			return tooWide("FERRY_TRUSTED_HEADER_FROM", cfg.Proxy.UserFrom, "whoever connects from there signs in as anyone")
		})},
		{Code: "trusted-proxies-wide", Severity: doctor.Warning, Find: always(func() []doctor.Finding {
			return tooWide("FERRY_TRUSTED_PROXIES", cfg.Proxy.AddressFrom, "whoever connects from there makes up an address for each request, and limits by address do not hold")
		})},
	}
}

// always makes a Find of what needs nothing but the configuration.
func always(find func() []doctor.Finding) doctor.Find {
	return func(context.Context) ([]doctor.Finding, error) { return find(), nil }
}

func mistakes(wrong error) (findings []doctor.Finding) {
	if e, ok := errors.AsType[*config.Error](wrong); ok {
		for _, p := range e.Problems {
			findings = append(findings, doctor.Finding{
				Problem: fmt.Sprintf("%s: %s.", p.Variable, p.Text),
				Remedy:  "ferry does not start before this variable is set or changed as it says.",
			})
		}
	}
	return findings
}

func warnings(cfg *config.Config) (findings []doctor.Finding) {
	for _, w := range cfg.Warnings {
		variable, _, _ := strings.Cut(w, ":")
		findings = append(findings, doctor.Finding{Problem: w + ".", Remedy: "Set or change " + variable + "."})
	}
	return findings
}

func anyOrigin(cfg *config.Config) []doctor.Finding {
	if !slices.Contains(cfg.CORSOrigins, "*") {
		return nil
	}
	return []doctor.Finding{{
		Problem: "FERRY_CORS_ORIGINS is *: every web page can call the API with whatever session it gets hold of.",
		Remedy:  "List the origins of the app:", Run: "FERRY_CORS_ORIGINS=https://app.example.com,capacitor://localhost",
	}}
}

// The widest networks that can be one organisation's: 10.0.0.0/8 (RFC 1918) and
// fc00::/7 (RFC 4193).
const widestIPv4, widestIPv6 = 8, 7

func tooWide(variable string, networks []netip.Prefix, means string) (findings []doctor.Finding) {
	for _, n := range networks {
		widest := widestIPv6
		if n.Addr().Is4() {
			widest = widestIPv4
		}
		if n.Bits() < widest {
			findings = append(findings, doctor.Finding{
				Problem: fmt.Sprintf("%s has %s, which is more than any proxy's network: %s.", variable, n, means),
				Remedy:  "Give the addresses of the proxies alone:", Run: variable + "=10.0.3.7,10.0.3.8",
			})
		}
	}
	return findings
}
