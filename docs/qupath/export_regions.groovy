/*
 * Writes the annotations of every image of the open QuPath project as the regions that count, one file a
 * slide, and says what to write into the column `roi` of the sheet.
 *
 * Written for QuPath 0.4 to 0.6. docs/qupath/README.md says how to use it. Research use only.
 */
import qupath.lib.scripting.QP

// Change these two lines, or give both as arguments.
def sheetFile = '/path/to/config/samples.tsv'
def regionsFolder = '/path/to/regions'
// Annotations of these classes are nuclei that a person drew, not regions.
def nuclei = ['Positive', 'Negative', '1+', '2+', '3+']

def given = binding.hasVariable('args') && args ? args as List : []
def sheet = new File(given.size() > 0 ? given[0] : sheetFile)
def folder = new File(given.size() > 1 ? given[1] : regionsFolder)

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

def project = QP.getProject()
if (project == null) throw new IllegalStateException('open a project first')
def rows = readSheet(sheet)
folder.mkdirs()
def written = []

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
    // What is drawn in the viewer and not saved yet counts too.
    def open = QP.getCurrentImageData()
    def isOpen = open != null && project.getEntry(open) == entry
    def hierarchy = isOpen ? open.getHierarchy() : entry.readHierarchy()
    def regions = hierarchy.getAnnotationObjects().findAll { region ->
        def className = region.getPathClass()?.toString() ?: ''
        region.getROI().isArea() && !(className.tokenize(':')*.trim().with { it ? it.last() : '' } in nuclei)
    }
    if (!regions) {
        println "${name}: no annotation with an area; all its tissue counts"
        continue
    }
    def file = new File(folder, "${found[0].slide_id}.geojson")
    QP.exportObjectsToGeoJson(regions, file.getPath(), 'FEATURE_COLLECTION', 'EXCLUDE_MEASUREMENTS')
    def classes = regions.countBy { it.getPathClass()?.toString() ?: 'no class' }
    println "${name}: ${classes.collect { name2, n -> name2 + ' ' + n }.join(', ')}"
    written << [found[0].slide_id, file.getPath()]
}

println "\nIn ${sheet.getName()}, write into the column roi (add it if it is not there):"
written.each { println it.join('\t') }
