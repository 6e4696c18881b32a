/*
 * Writes what was corrected in the open QuPath project in the form that `snakemake dataset` reads
 * (docs/training.md): for every image with rectangles of class Region*, these and the nuclei in them.
 *
 * Written for QuPath 0.4 to 0.6. docs/qupath/README.md says how to use it. Research use only.
 */
import qupath.lib.scripting.QP

// Change these two lines, or give both as arguments.
def sheetFile = '/path/to/config/samples.tsv'
def labelsFolder = '/path/to/labels'
// A file that is there already is only written over if this is true.
def replace = false

def given = binding.hasVariable('args') && args ? args as List : []
def sheet = new File(given.size() > 0 ? given[0] : sheetFile)
def folder = new File(given.size() > 1 ? given[1] : labelsFolder)
replace = replace || given.contains('--replace')

// The sheet: slide_id and path of every row; lines that begin with # are comments, and cells may be quoted.
def readSheet = { File file ->
    def lines = file.getText('UTF-8').replace('\uFEFF', '').readLines().findAll { it.trim() && !it.startsWith('#') }
    def rows = lines.collect { line ->
        line.split('\t', -1)*.trim().collect { it ==~ /".*"/ ? it.substring(1, it.length() - 1).replace('""', '"') : it }
    }
    if (!rows || !('slide_id' in rows[0]) || !('path' in rows[0]))
        throw new IllegalArgumentException("${file}: has no columns slide_id and path; name the sheet of the run")
    rows.drop(1).collect { [rows[0], it].transpose().collectEntries() }
}

// Rows of the sheet whose slide is this image: by the file's name, a DICOM folder's name, or the slide_id.
def findRows = { entry, rows ->
    def files = entry.getURIs().collect { new File(it.getPath() ?: '') }
    def folders = files.findAll { it.getName().toLowerCase().endsWith('.dcm') }.collect { it.getParentFile()?.getName() }
    def names = files*.getName() + folders + [entry.getOriginalImageName()]
    def found = rows.findAll { new File(it.path).getName() in names || it.slide_id == entry.getOriginalImageName() }
    def exact = found.findAll { row -> files.any { it.getPath() == new File(row.path).getAbsolutePath() } }
    exact ?: found
}

def left = { roi -> roi.getBoundsX() }
def top = { roi -> roi.getBoundsY() }
def right = { roi -> roi.getBoundsX() + roi.getBoundsWidth() }
def bottom = { roi -> roi.getBoundsY() + roi.getBoundsHeight() }
def holdsCentre = { region, roi ->
    def x = (left(roi) + right(roi)) / 2, y = (top(roi) + bottom(roi)) / 2
    left(region) <= x && x < right(region) && top(region) <= y && y < bottom(region)
}
def holdsAll = { region, roi ->
    left(region) <= left(roi) && right(roi) <= right(region) && top(region) <= top(roi) && bottom(roi) <= bottom(region)
}
def isRegion = { it.getROI().isArea() && it.getPathClass()?.toString() == 'Region*' }

def project = QP.getProject()
if (project == null) throw new IllegalStateException('open a project first')
def rows = readSheet(sheet)
folder.mkdirs()
def nWritten = 0

def entries = project.getImageList() as List
def rowsOf = entries.collect { findRows(it, rows) }
def timesNamed = rowsOf.findAll { it.size() == 1 }.countBy { it[0].slide_id }

for (int at = 0; at < entries.size(); at++) {
    def entry = entries[at], found = rowsOf[at]
    def name = entry.getOriginalImageName()
    if (found.size() == 1 && timesNamed[found[0].slide_id] > 1) {
        println "${name}: several images of the project are ${found[0].slide_id} by their names; left out"
        continue
    }
    if (found.size() != 1) {
        println "${name}: ${found ? 'several rows of the sheet name' : 'no row of the sheet names'} this file; left out"
        continue
    }
    def open = QP.getCurrentImageData()
    def isOpen = open != null && project.getEntry(open) == entry
    def hierarchy = isOpen ? open.getHierarchy() : entry.readHierarchy()
    def annotations = hierarchy.getAnnotationObjects()
    def regions = annotations.findAll { isRegion(it) }
    if (!regions) {
        println "${name}: no rectangle of class Region*; left out"
        continue
    }
    def file = new File(folder, "${found[0].slide_id}.geojson")
    if (file.exists() && !replace) {
        println "${name}: ${file} is there already; left as it is (replace = true writes over it)"
        continue
    }
    def detections = hierarchy.getDetectionObjects().findAll { nucleus ->
        regions.any { holdsCentre(it.getROI(), nucleus.getROI()) }
    }
    // Nuclei that a person added: points anywhere, outlines within a region. Outlines of tissue are neither.
    def drawn = annotations.findAll { annotation ->
        def roi = annotation.getROI()
        !isRegion(annotation) && (roi.isPoint() || regions.any { holdsAll(it.getROI(), roi) })
    }
    def nuclei = (detections as List) + (drawn as List)
    QP.exportObjectsToGeoJson((regions as List) + nuclei, file.getPath(), 'FEATURE_COLLECTION', 'EXCLUDE_MEASUREMENTS')
    nWritten++
    def classes = nuclei.countBy { it.getPathClass()?.toString() ?: 'no class' }
    println "${name}: ${regions.size()} regions, ${classes.collect { name2, n -> name2 + ' ' + n }.join(', ') ?: 'no nuclei'}"
    if (classes['no class'])
        println "${name}: nuclei without a class will be refused; give them one and run this again"
}
println "${nWritten} files in ${folder}; now: snakemake --cores 8 -- dataset"
