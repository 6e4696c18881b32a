package qupath.lib.roi.interfaces

/** Stub of QuPath's interface. */
class ROI {
    Map geometry

    private List getNumbers() { [geometry.coordinates].flatten() }
    private List getXs() { numbers.indexed().findAll { it.key % 2 == 0 }.values() as List }
    private List getYs() { numbers.indexed().findAll { it.key % 2 == 1 }.values() as List }
    boolean isArea() { geometry.type in ['Polygon', 'MultiPolygon'] }
    boolean isPoint() { geometry.type in ['Point', 'MultiPoint'] }
    double getBoundsX() { xs.min() }
    double getBoundsY() { ys.min() }
    double getBoundsWidth() { xs.max() - xs.min() }
    double getBoundsHeight() { ys.max() - ys.min() }
}
