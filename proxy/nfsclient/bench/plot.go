package bench

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"time"
)

// Shape of a plot, in pixels.
const (
	panelWidth  = 420
	panelHeight = 300
	panelMargin = 60
)

var plotColours = []string{"#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce"}

// Plot draws s as SVG, a diagram for each group: the server's processor time of an operation over the number of clients, or of
// files, both on logarithmic scales. A level line is cost that does not grow.
func (s *Scaling) Plot(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		len(s.Groups)*panelWidth, panelHeight+panelMargin)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	low, high := s.bounds()
	for i, g := range s.Groups {
		panel{b: &b, left: float64(i * panelWidth), low: low, high: high}.draw(g.Title, g.Series)
	}
	fmt.Fprintln(&b, "</svg>")
	_, err := w.Write(b.Bytes())
	return err
}

// bounds are whole decades of microseconds around all points.
func (s *Scaling) bounds() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, g := range s.Groups {
		for _, one := range g.Series {
			for _, p := range one.Points {
				at := math.Log10(micros(p.CPUPerOp))
				low, high = min(low, math.Floor(at)), max(high, math.Ceil(at))
			}
		}
	}
	if low >= high { // one level, or nothing
		return 0, 1
	}
	return low, high
}

// micros is d in microseconds, a tenth at least: less was not measured.
func micros(d time.Duration) float64 { return max(float64(d)/float64(time.Microsecond), 0.1) }

// panel is one of the diagrams.
type panel struct {
	b         *bytes.Buffer
	left      float64
	low, high float64 // decades of microseconds
	first     float64 // decades of N
	last      float64
}

func (p panel) x(n float64) float64 {
	return p.left + panelMargin + (math.Log10(n)-p.first)/max(p.last-p.first, 1)*(panelWidth-1.5*panelMargin)
}

func (p panel) y(us float64) float64 {
	return panelHeight - (math.Log10(us)-p.low)/(p.high-p.low)*(panelHeight-panelMargin)
}

// draw draws axes and series.
func (p panel) draw(title string, series []Series) {
	p.first, p.last = math.Inf(1), math.Inf(-1)
	for _, s := range series {
		for _, at := range s.Points {
			p.first, p.last = min(p.first, math.Log10(float64(at.N))), max(p.last, math.Log10(float64(at.N)))
		}
	}
	if p.first > p.last {
		return
	}
	for d := p.low; d <= p.high; d++ {
		us := math.Pow(10, d)
		fmt.Fprintf(p.b, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" stroke="#ddd"/>`+"\n",
			p.left+panelMargin, p.y(us), p.left+panelWidth-panelMargin/2, p.y(us))
		fmt.Fprintf(p.b, `<text x="%.0f" y="%.0f" text-anchor="end">%g µs</text>`+"\n", p.left+panelMargin-6, p.y(us)+4, us)
	}
	for d := math.Ceil(p.first); d <= p.last; d++ {
		n := math.Pow(10, d)
		fmt.Fprintf(p.b, `<text x="%.0f" y="%d" text-anchor="middle">%.0f</text>`+"\n", p.x(n), panelHeight+18, n)
	}
	fmt.Fprintf(p.b, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n",
		p.left+panelWidth/2, panelHeight+40, html.EscapeString(title))
	for i, s := range series {
		p.line(s, plotColours[i%len(plotColours)], float64(18+16*i))
	}
}

// line draws one series and, at legend, its name.
func (p panel) line(s Series, colour string, legend float64) {
	fmt.Fprintf(p.b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
	for _, at := range s.Points {
		fmt.Fprintf(p.b, "%.1f,%.1f ", p.x(float64(at.N)), p.y(micros(at.CPUPerOp)))
	}
	fmt.Fprintln(p.b, `"/>`)
	for _, at := range s.Points {
		fmt.Fprintf(p.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", p.x(float64(at.N)), p.y(micros(at.CPUPerOp)), colour)
	}
	fmt.Fprintf(p.b, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`+"\n",
		p.left+panelMargin+8, legend, colour, html.EscapeString(s.Name))
}

// Print writes a table.
func (s *Scaling) Print(w io.Writer) error {
	var b bytes.Buffer
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "%-28s %9s %12s %12s   %s\n", "operation", "n", "op/s", "server/op", g.Title)
		for _, one := range g.Series {
			for _, p := range one.Points {
				fmt.Fprintf(&b, "%-28s %9d %12.0f %12v\n", one.Name, p.N, p.OpsPerSecond, p.CPUPerOp.Round(100*time.Nanosecond))
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
