package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// The plot's sizes, in pixels.
const (
	plotWidth, plotHeight = 420, 300
	plotMargin            = 50
)

// writePlot draws curves side by side, both axes logarithmic. A library for this
// would be the largest dependency of the project.
func writePlot(path string, curves []curve) error {
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotWidth*len(curves), plotHeight)
	svg.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, c := range curves {
		fmt.Fprintf(&svg, `<g transform="translate(%d,0)">`+"\n", i*plotWidth)
		c.draw(&svg)
		svg.WriteString("</g>\n")
	}
	svg.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(svg.String()), 0o644) //nolint:gosec // results are no secret
}

// axis places values between the powers of ten around them.
type axis struct{ low, high float64 }

func axisFor(points []point, value func(point) float64) axis {
	a := axis{math.Inf(1), math.Inf(-1)}
	for _, p := range points {
		log := math.Log10(value(p))
		a.low, a.high = min(a.low, math.Floor(log)), max(a.high, math.Ceil(log))
	}
	a.high = max(a.high, a.low+1)
	return a
}

// at returns where a value is, from 0 to 1.
func (a axis) at(value float64) float64 { return (math.Log10(value) - a.low) / (a.high - a.low) }

func (c *curve) draw(svg *strings.Builder) {
	x := axisFor(c.Points, func(p point) float64 { return p.X })
	y := axisFor(c.Points, func(p point) float64 { return p.Y })
	left := func(v float64) float64 { return plotMargin + x.at(v)*(plotWidth-2*plotMargin) }
	top := func(v float64) float64 { return plotHeight - plotMargin - y.at(v)*(plotHeight-2*plotMargin) }
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, s)
	}
	text(plotWidth/2, 20, "middle", c.Name+", "+c.Y)
	text(plotWidth/2, plotHeight-12, "middle", c.X)
	for power := y.low; power <= y.high; power++ {
		v := math.Pow(10, power)
		fmt.Fprintf(svg, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", plotMargin, plotWidth-plotMargin, top(v), top(v))
		text(plotMargin-6, top(v)+4, "end", fmt.Sprintf("%g", v))
	}
	line := make([]string, len(c.Points))
	for i, p := range c.Points {
		line[i] = fmt.Sprintf("%.1f,%.1f", left(p.X), top(p.Y))
		fmt.Fprintf(svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="#1f5fbf"/>`+"\n", left(p.X), top(p.Y))
		text(left(p.X), top(p.Y)-8, "middle", fmt.Sprintf("%.3g", p.Y))
		text(left(p.X), plotHeight-plotMargin+16, "middle", fmt.Sprintf("%g", p.X))
	}
	fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="#1f5fbf" stroke-width="2"/>`+"\n", strings.Join(line, " "))
}
